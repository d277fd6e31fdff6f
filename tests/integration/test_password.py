"""A Prefect server behind a password, and behind a proxy that asks for a header."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import httpx
import pytest

from deployments.local.prefect_server import start_server
from deployments.local.process import inherited_environment
from deployments.local.processes import Processes
from deployments.prefect_access import access_headers, why_not
from tasks.errors import StackError
from tests.counting_model import CountingModels, counting_models
from tests.job_scene import paint
from tests.polling import until
from tests.swath_up import SwathUp, swath_up

PASSWORD = "swath:a long: one"
HEADER, TOKEN = "X-Access-Token", "let-me-in"
CUSTOM = json.dumps({HEADER: TOKEN})


class Proxy(ThreadingTCPServer):
    """Passes on connections, WebSockets too, whose first request has the header."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        self.to = port
        super().__init__(("127.0.0.1", 0), _Connection)


class _Connection(StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        head = b""
        while (line := self.rfile.readline()) not in {b"\r\n", b""}:
            head += line
        if f"\n{HEADER}: {TOKEN}\r\n".lower().encode() not in head.lower():
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", self.server.to)) as server:
            server.sendall(head + b"\r\n")
            Thread(target=self._answer, args=(server,), daemon=True).start()
            with suppress(OSError):
                while sent := self.rfile.read1():
                    server.sendall(sent)

    def _answer(self, server: socket.socket) -> None:
        with suppress(OSError):
            while received := server.recv(65536):
                self.wfile.write(received)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwathUp]:
    folder = tmp_path_factory.mktemp("up")
    paint(folder / "small.tif", 300, 200, blank=False)
    with swath_up(folder, PREFECT_SERVER_API_AUTH_STRING=PASSWORD) as up:
        up.start()
        yield up


@pytest.fixture(scope="module")
def models() -> Iterator[CountingModels]:
    with counting_models() as models:
        yield models


@pytest.fixture
def proxy(up: SwathUp) -> Iterator[str]:
    """The URL of the API behind a proxy."""
    with Proxy(httpx.URL(up.record.api_url).port or 0) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
        server.shutdown()


def swath(up: SwathUp, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in another terminal, beside the stack or for the server of PREFECT_API_URL."""
    return subprocess.run(
        [sys.executable, "-m", "deployments.cli", *map(str, arguments)],
        env=inherited_environment()
        | {"SWATH_STATE_DIR": str(up.state), "COLUMNS": "500", "PREFECT_HOME": str(up.folder)}
        | variables,
        cwd=up.folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_stack_with_a_password_works_whole(up: SwathUp, models: CountingModels) -> None:
    """Also when its worker is killed: its runs are settled by calls of Swath's own."""
    model = models.model("first")
    model.answer_only(1)
    up.submit("first", model.url, up.folder / "small.tif")
    until(lambda: model.figures().answered)
    up.kill_part("worker")
    model.answer_all()
    up.await_state("first", "Completed")
    done = swath(up, "jobs")
    assert "first" in done.stdout
    assert "SUCCESS" in done.stdout
    assert "not live" not in done.stdout + done.stderr
    assert PASSWORD not in up.console
    assert (up.state / "stack.json").stat().st_mode & 0o077 == 0  # the password is in there


@pytest.mark.parametrize(
    ("password", "command"),
    [
        ("", ("jobs",)),
        ("swath:wrong", ("cancel", "first")),
        ("swath:wrong", ("run", "small.tif", "--model", "centerpoint", "--out", "out")),
    ],
)
def test_without_the_password_the_setting_is_named(
    up: SwathUp, password: str, command: tuple[str, ...]
) -> None:
    here = {"PREFECT_API_URL": up.record.api_url, "PREFECT_API_AUTH_STRING": password}
    done = swath(up, *command, **here)
    told = done.stdout + done.stderr
    assert "refused a call with status 401: set PREFECT_API_AUTH_STRING" in told
    assert "Traceback" not in told
    assert not (up.folder / "out").exists()


def test_behind_a_proxy_a_run_sends_the_header_and_the_password(up: SwathUp, proxy: str) -> None:
    here = {"PREFECT_API_URL": proxy, "PREFECT_API_AUTH_STRING": PASSWORD}
    run = ("run", "small.tif", "--model", "centerpoint", "--out", "behind", "--json")
    done = swath(up, *run, **here)
    assert "status 403: set " in done.stderr
    assert "name it in PREFECT_CLIENT_CUSTOM_HEADERS" in done.stderr
    assert not (up.folder / "behind").exists()
    done = swath(up, *run, **here, PREFECT_CLIENT_CUSTOM_HEADERS=CUSTOM)
    assert done.returncode == 0, done.stderr
    assert "Follow it at" in done.stderr
    assert json.loads(done.stdout)["status"] == "SUCCESS"


def test_settings_of_a_profile_are_sent_too(
    up: SwathUp, proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = f"PREFECT_CLIENT_CUSTOM_HEADERS = {json.dumps(CUSTOM)}\n"
    password = f"PREFECT_API_AUTH_STRING = {json.dumps(PASSWORD)}\n"
    profile = tmp_path / "profiles.toml"
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(profile))
    for text, status in (("", "403"), (headers, "401"), (headers + password, "")):
        profile.write_text(f'active = "mine"\n[profiles.mine]\n{text}')
        assert status in why_not(proxy, 30.0)
        assert bool(status) == bool(why_not(proxy, 30.0))


def test_custom_headers_that_are_no_object_are_refused_without_their_value() -> None:
    for value in ("[1]", "let-me-in", '{"X-Access-Token": 1}'):
        with pytest.raises(StackError, match="PREFECT_CLIENT_CUSTOM_HEADERS is not") as told:
            access_headers({"PREFECT_CLIENT_CUSTOM_HEADERS": value})
        assert "let-me-in" not in str(told.value)


def test_a_password_that_prefect_cannot_compare_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "swath:schön")
    with Processes() as processes, pytest.raises(StackError, match="AUTH_STRING: Prefect compares"):
        start_server(processes, tmp_path)
