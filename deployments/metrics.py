"""`swath metrics`: serves the metrics of all processes of this machine to Prometheus."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from rich.console import Console

from tasks.errors import RequestError
from tasks.settings import settings
from tasks.telemetry.machine import machine_totals
from tasks.telemetry.prometheus import exposition


class MetricsServer(ThreadingHTTPServer):
    """Answers `GET /metrics`."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], folder: Path) -> None:
        """Listen, and answer nothing yet.

        Args:
            address: Host and port.
            folder: Where processes keep their totals.
        """
        self.folder = folder
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer

    def do_GET(self) -> None:
        """Answer with all metrics."""
        if self.path.partition("?")[0] not in {"/", "/metrics"}:
            self.send_error(404)
            return
        body = exposition(machine_totals(self.server.folder))
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        """Log no request: there is one every few seconds."""


def serve(folder: Path | None, host: str, port: int, console: Console) -> int:
    """Serve until Ctrl-C; return the exit status.

    Args:
        folder: Where processes keep their totals; None for the setting.
        host: The address to listen on.
        port: The port to listen on.
        console: Where the address is printed.

    Raises:
        RequestError: There is no folder, or the port cannot be used.
    """
    folder = folder or settings().metrics_folder
    if folder is None:
        raise RequestError(
            "SWATH_METRICS_FOLDER is not set: set it to one folder, here and for the processes "
            "that are to be measured (those of the worker), or give --folder."
        )
    try:
        server = MetricsServer((host, port), folder)
    except OSError as error:
        raise RequestError(
            f"--port: {host}:{port} cannot be used: {error.strerror}; give another one."
        ) from error
    with server:
        console.print(f"Metrics of {folder} on http://{host}:{port}/metrics", soft_wrap=True)
        server.serve_forever()
    return 0
