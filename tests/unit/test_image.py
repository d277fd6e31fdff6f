"""The build command, the locks and the health check of the container image, without a build."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path
from threading import Thread

import pytest
from packaging.requirements import Requirement

from deployments.image import host
from deployments.image.build import build, find_engine
from deployments.image.health import healthy
from deployments.image.unused import remove
from tasks.errors import StackError

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deployments" / "image"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening


def answering(server: socket.socket, answer: bytes) -> int:
    """Answer the next connection; the port."""

    def answer_once() -> None:
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1024).startswith(b"GET /health HTTP/1.1\r\n")
            connection.sendall(answer)

    Thread(target=answer_once, daemon=True).start()
    port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", True),  # a server of models has no such page
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),  # a worker that no longer polls
        (b"", False),
    ],
)
def test_a_listening_server_is_healthy_if_it_answers_without_an_error(
    server: socket.socket, answer: bytes, expected: bool
) -> None:
    assert healthy(answering(server, answer), "/health") is expected


def test_a_server_that_accepts_and_does_not_answer_is_unhealthy(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.image.health._TIMEOUT", 0.2)
    assert not healthy(server.getsockname()[1], "/health")


def test_a_container_without_a_server_is_healthy(server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()
    assert healthy(port, "/health")


def test_the_health_check_imports_no_slow_module() -> None:
    program = "import deployments.image.health, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not {
        "asyncio",
        "email",
        "http",
        "numpy",
        "prefect",
        "ssl",
        "urllib.request",
    }.intersection(loaded.stdout.decode().split())


def test_an_index_is_passed_on_without_folders_that_a_build_cannot_read(tmp_path: Path) -> None:
    settings = {
        "index-url": "https://user:word@index.example/simple",
        "extra-index-url": "file:///srv/index/simple\nhttps://more.example/simple",
        "find-links": "/srv/wheels",
        "cert": "/etc/ssl/ours.pem",
        "cache-dir": "/var/cache/pip",
    }
    secrets = host.secrets(settings, tmp_path)
    assert secrets == {"ca": Path("/etc/ssl/ours.pem"), "pip": tmp_path / "pip.conf"}
    assert (tmp_path / "pip.conf").read_text().splitlines() == [
        "[global]",
        "index-url = https://user:word@index.example/simple",
        "extra-index-url = https://more.example/simple",
        "cert = /etc/pip-ca.pem",
    ]


def test_without_settings_no_secret_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert host.secrets({"find-links": "/srv/wheels"}, tmp_path) == {}


def test_the_environment_of_pip_takes_precedence_over_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://file.example\nproxy = p:1\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.example")
    settings = host.pip_settings()
    assert (settings["index-url"], settings["proxy"]) == ("https://variable.example", "p:1")


def test_without_an_engine_the_error_names_the_supported_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StackError, match="podman, docker, buildah"):
        find_engine()


def test_an_engine_gets_base_commit_and_secrets(tmp_path: Path) -> None:
    fake = tmp_path / "buildah"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/told\n')
    fake.chmod(0o755)
    build(with_engine=str(fake), base="registry.example/python@sha256:1", more=["--pull"])
    told = (tmp_path / "told").read_text().splitlines()
    assert told[:2] == ["build", "--tag=swath"]
    assert told[-1] == str(ROOT)
    assert {"--build-arg=BASE_IMAGE=registry.example/python@sha256:1", "--pull"} <= set(told)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"--build-arg=VERSION={version}" in told
    asked = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    assert any(one.startswith(f"--build-arg=REVISION={commit or 'unknown'}") for one in told)


def test_a_flavour_is_part_of_the_name_and_chooses_what_is_installed(tmp_path: Path) -> None:
    fake = tmp_path / "buildah"
    fake.write_text(f'#!/bin/sh\nprintf "%s\n" "$@" > {tmp_path}/told\n')
    fake.chmod(0o755)
    build(with_engine=str(fake), tag="swath:gpu", flavour="gpu")
    assert {"--tag=swath:gpu", "--build-arg=FLAVOUR=gpu"} <= set(
        (tmp_path / "told").read_text().splitlines()
    )
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert dockerfile.count("ARG FLAVOUR=cpu") == 2


def test_the_image_for_gpus_has_onnxruntime_with_cuda_in_place_of_the_other() -> None:
    added, common = names(IMAGE / "gpu.lock"), names(IMAGE / "runtime.lock")
    assert "onnxruntime" in common
    assert "onnxruntime-gpu" in added
    assert any(name.startswith("nvidia-cudnn") for name in added)
    assert not added & common
    assert len(hashes(IMAGE / "gpu.lock")) >= len(added)


def test_nothing_that_the_image_without_onnx_keeps_needs_what_it_lacks() -> None:
    (line,) = re.findall(r"uninstall --yes (onnxruntime .*); fi", (ROOT / "Dockerfile").read_text())
    lacking = set(line.split())
    for name in names(IMAGE / "runtime.lock") - lacking:
        with suppress(metadata.PackageNotFoundError):  # another system's
            needed = [Requirement(one) for one in metadata.requires(name) or ()]
            here = {one.name for one in needed if not one.marker or one.marker.evaluate()}
            assert not here & lacking, name


def test_only_parts_that_no_process_opens_are_removed(tmp_path: Path) -> None:
    kept, unused = ("scipy/ndimage/a.py", "tests.py"), ("scipy/stats/tests/a.py", "a/b/tests/c/a")
    for name in (*kept, *unused, "pyarrow/libarrow_flight.so.26", "pyarrow/libarrow.so.26"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    assert remove(tmp_path) == 4 * 3
    left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert left == {*kept, "pyarrow/libarrow.so.26"}


def test_a_build_that_fails_is_an_error() -> None:
    with pytest.raises(StackError, match="false build failed"):
        build(with_engine="false")


LOCKS = {name: ROOT / "tests" / f"{name}.lock" for name in ("test", "lint", "bench")}


def pins(lock: Path) -> set[str]:
    return set(re.findall(r"^[\w.-]+==[^\s;]+", lock.read_text(), re.MULTILINE))


def names(lock: Path) -> set[str]:
    return {pin.partition("==")[0] for pin in pins(lock)}


def hashes(lock: Path) -> set[str]:
    return set(re.findall(r"--hash=\S+", lock.read_text()))


def test_the_image_has_the_versions_that_are_tested() -> None:
    lock, tested = IMAGE / "runtime.lock", ROOT / "requirements.lock"
    assert len(pins(lock)) > 100
    assert pins(lock) <= pins(tested)
    assert hashes(lock) <= hashes(tested)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_of_tools_contains_only_packages_that_are_not_needed_to_run(name: str) -> None:
    tools = names(LOCKS[name])
    assert tools
    assert not tools & names(ROOT / "requirements.lock")
    assert len(hashes(LOCKS[name])) >= len(tools)


@pytest.mark.parametrize(
    "lock", [ROOT / "requirements.lock", *LOCKS.values(), *IMAGE.glob("*.lock")]
)
def test_a_lock_names_no_address_to_download_from(lock: Path) -> None:
    assert "://" not in lock.read_text()


def test_the_build_tools_are_pinned_with_hashes() -> None:
    lock = IMAGE / "build.lock"
    assert names(lock) >= {"hatchling", "cyclonedx-bom"}
    assert len(hashes(lock)) >= len(pins(lock))


def test_the_image_contains_no_development_tool() -> None:
    tools = {
        "ministack",
        "hatchling",
        "setuptools",
        "pip",
        *(tool for lock in LOCKS.values() for tool in names(lock)),
    }
    assert not tools & names(IMAGE / "runtime.lock")
