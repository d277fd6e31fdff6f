"""`swath run` that is interrupted or killed, or whose Prefect server stops, leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest

from deployments.local.prefect_server import PrefectServer, start_server
from deployments.local.processes import Processes
from tests.job_scene import paint

SWATH = Path(sys.executable).with_name("swath")


@pytest.fixture
def silent_model() -> Iterator[tuple[str, Callable[[], None]]]:
    """The URL of a model that takes calls and never answers; and a function that awaits a call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls: list[socket.socket] = []

        def await_call() -> None:
            server.settimeout(120)
            calls.append(server.accept()[0])

        yield f"http://127.0.0.1:{server.getsockname()[1]}/model", await_call
        for call in calls:
            call.close()


def running(
    folder: Path, *arguments: object, **environment: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    """`swath run` of a scene, with temporary files in `folder`/tmp and results in `folder`/out."""
    scene = scene_in(folder)
    command = [SWATH, "run", scene, "--out", folder / "out", "--tile-size", 128, "--overlap", 32]
    return started(folder, [*command, *arguments], **environment)


def calling(folder: Path, model: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """A Python program that calls `swath.run` for a scene, with temporary results."""
    program = f"import swath; swath.run({str(scene_in(folder))!r}, model={model!r}, progress=False)"
    return started(folder, [sys.executable, "-c", program])


def scene_in(folder: Path) -> Path:
    scene = folder / "scene.tif"
    if not scene.exists():
        (folder / "tmp").mkdir()
        paint(scene)
    return scene


@contextmanager
def started(
    folder: Path, command: Sequence[object], **environment: str
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(word) for word in command],
        env=os.environ | {"TMPDIR": str(folder / "tmp"), "PREFECT_HOME": str(folder)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def await_end(process: subprocess.Popen[str]) -> str:
    """What a process printed on stderr; it has to end long before the calls to its model do."""
    children = psutil.Process(process.pid).children(recursive=True)
    _, told = process.communicate(timeout=40)
    assert not [child for child in children if child.is_running()]
    assert "Traceback" not in told
    return told


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in (folder / "tmp").iterdir()]


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda each: getattr(each, "name", str(each)),
)
def test_a_signal_ends_a_run_and_leaves_nothing_but_answers(
    tmp_path: Path,
    silent_model: tuple[str, Callable[[], None]],
    number: signal.Signals,
    status: int,
) -> None:
    url, await_call = silent_model
    with running(tmp_path, "--model", url) as process:
        await_call()
        process.send_signal(number)
        assert "Stopping …" in await_end(process)
        assert process.returncode == status
    assert left_behind(tmp_path) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".swath"]  # blank tiles


def test_the_next_run_removes_what_a_killed_one_left(
    tmp_path: Path, silent_model: tuple[str, Callable[[], None]]
) -> None:
    url, await_call = silent_model
    with calling(tmp_path, url) as killed:
        await_call()
        killed.kill()
        killed.wait(60)
    abandoned = left_behind(tmp_path)
    assert abandoned
    with calling(tmp_path, url) as living:
        await_call()
        kept = left_behind(tmp_path)
        assert kept
        assert not set(kept) & set(abandoned)
        with running(tmp_path, "--model", "centerpoint") as other:
            other.communicate(timeout=240)
            assert other.returncode == 0
        assert left_behind(tmp_path) == kept  # its process is alive
        living.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectServer]:
    with Processes() as processes:
        server = start_server(processes, tmp_path / "server")
        server.wait()
        yield server


def test_a_run_ends_when_its_prefect_server_stops(
    tmp_path: Path, server: PrefectServer, silent_model: tuple[str, Callable[[], None]]
) -> None:
    url, await_call = silent_model
    with running(
        tmp_path, "--model", url, "--json", PREFECT_API_URL=server.api_url,
        SWATH_ENDPOINT_TIMEOUT="600",
    ) as process:  # fmt: skip
        await_call()
        server.process.stop()
        output, told = process.communicate(timeout=120)
        assert process.returncode == 1
        assert f"The Prefect server {server.api_url} stopped answering" in told
        assert "Traceback" not in told
        assert '"status": "FAILED"' in output
    assert left_behind(tmp_path) == []


def test_a_signal_ends_a_run_on_a_prefect_server_and_leaves_nothing(
    tmp_path: Path, server: PrefectServer, silent_model: tuple[str, Callable[[], None]]
) -> None:
    url, await_call = silent_model
    with running(tmp_path, "--model", url, PREFECT_API_URL=server.api_url) as process:
        await_call()
        time.sleep(1)  # so that the task run is waiting for the answer
        process.send_signal(signal.SIGINT)
        await_end(process)
        assert process.returncode == 130
    assert left_behind(tmp_path) == []


def test_an_interrupted_run_without_an_answer_leaves_no_folder(
    tmp_path: Path, silent_model: tuple[str, Callable[[], None]]
) -> None:
    url, await_call = silent_model
    paint(tmp_path / "scene.tif", blank=False)
    (tmp_path / "tmp").mkdir()
    with running(tmp_path, "--model", url) as process:
        await_call()
        process.send_signal(signal.SIGINT)
        await_end(process)
    assert not (tmp_path / "out").exists()
