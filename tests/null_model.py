"""An HTTP model that finds nothing, in a separate process: `python -m tests.null_model SECONDS`."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

_NOTHING = b'{"type":"FeatureCollection","features":[]}'
_REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/geo+json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_NOTHING), _NOTHING)
)


@contextmanager
def null_model(seconds: float = 0.0) -> Iterator[str]:
    """Run the model, which takes `seconds` for each call; yield its URL."""
    command = [sys.executable, "-m", "tests.null_model", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/invocations"
        finally:
            process.kill()


def _serve(connection: socket.socket, seconds: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(1 << 20))
    received = b""
    while chunk := connection.recv(1 << 16):
        received += chunk
        head, end, body = received.partition(b"\r\n\r\n")
        if not end:
            continue
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        left = length - len(body)
        while left > 0:
            left -= connection.recv_into(buffer, min(left, len(buffer)))
        received = b""
        time.sleep(seconds)
        connection.sendall(_REPLY)


def main() -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            Thread(target=_serve, args=(connection, float(sys.argv[1])), daemon=True).start()


if __name__ == "__main__":
    main()
