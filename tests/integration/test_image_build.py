"""The container image: really built, on a Debian base, and run as the tasks on AWS run it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from affine import Affine

from tests.containers import SWATH, confined, swath

ROOT = Path(__file__).parents[2]
IN_CONTAINER = ROOT / "tests" / "in_container.py"
PROGRAM = (f"--volume={IN_CONTAINER}:/in_container.py:ro",)


def run(*command: str, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A command in a container of the image, as it is meant to be run."""
    return subprocess.run(
        confined(SWATH, *command, more=more),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def told(*command: str, more: tuple[str, ...] = PROGRAM) -> dict[str, Any]:
    """The JSON object that a command's output ends with."""
    done = run(*command, more=more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    swath()


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return told("python", "/in_container.py", "confinement")


def test_it_runs_without_privileges_and_writes_only_to_tmp(found: dict[str, Any]) -> None:
    assert found["user"] == [10001, 10001, [10001]]
    assert set(found["capabilities"].values()) == {0}
    shared = {folder for folder in found["writable"] if folder.split("/")[1] == "dev"}
    assert shared <= {"/dev/shm", "/dev/mqueue"}  # in memory, the engine's own
    assert set(found["writable"]) - shared == {"/tmp"}
    assert (found["interfaces"], found["routes"]) == (["lo"], 0)


def test_it_contains_no_tool_that_installs_or_builds(found: dict[str, Any]) -> None:
    assert found["modules"] == []
    assert found["commands"] == ["apt-get", "dpkg"]  # the base's, which cannot write
    kept = run(
        "find", "/opt", "/root", "/tmp", "/etc/pip.conf", "/etc/pip-ca.pem", "-maxdepth", "1"
    )
    assert kept.stdout.split() == ["/opt", "/opt/swath", "/opt/venv", "/root", "/tmp"]


def test_it_contains_exactly_the_pinned_versions(found: dict[str, Any]) -> None:
    pins = _pins(ROOT / "deployments" / "image" / "runtime.lock")
    installed = {(_normal(name), version) for name, version in found["distributions"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert installed - pins == {("swath", project["version"])}
    assert len(installed) > 100


def test_the_bill_of_materials_lists_what_is_in_it_with_licences(found: dict[str, Any]) -> None:
    bill = json.loads(run("cat", "/opt/swath/sbom.cdx.json").stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    kinds: dict[str, set[tuple[str, str]]] = {}
    for one in (bill["metadata"]["component"], *bill["components"]):
        kind = str(one.get("purl", "pkg:pypi/")).partition("/")[0]
        kinds.setdefault(kind, set()).add((one["name"], one.get("version")))
    python = {(_normal(name), version) for name, version in kinds["pkg:pypi"]}
    listed = {(_normal(name), version) for name, version in found["distributions"]}
    assert {name for name, _ in python - listed} == {"cpython"}
    assert listed <= python
    query = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\\n"]
    system = run(*query).stdout.splitlines()
    assert kinds["pkg:deb"] == {tuple(line.split(" ")) for line in system}
    of_python = [one for one in bill["components"] if "pypi" in one.get("purl", "")]
    assert [one["name"] for one in of_python if not one.get("licenses")] == []


def test_it_has_the_licences_of_what_is_in_it(found: dict[str, Any]) -> None:
    told = run("cat", "/opt/swath/licenses.txt").stdout
    for name, version in found["distributions"]:
        if name != "swath":
            assert f"\n{name} {version}: " in told
    assert "Redistribution and use in source and binary forms" in told
    assert "Apache License" in run("cat", "/opt/swath/LICENSE").stdout
    assert run("cat", "/usr/share/doc/libc6/copyright").returncode == 0


def test_the_merge_gives_the_same_result_as_here_and_compiles_nothing() -> None:
    inside = told("python", "/in_container.py", "merge")
    command = [sys.executable, str(IN_CONTAINER), "merge"]
    here = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert inside["answers"] == here["answers"]
    assert inside["compiled"] == []


def test_an_image_is_processed_from_end_to_end_without_a_network(tmp_path: Path) -> None:
    pixels = np.full((3, 600, 600), 50, np.uint8)
    profile = {"width": 600, "height": 600, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    transform = Affine(1, 0, 500_000, 0, -1, 5_400_000)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", transform=transform, **profile
    ) as sink:
        sink.write(pixels)
    done = run(
        "python", "/in_container.py", "swath",
        "run", "/scene/scene.tif", "--model", "centerpoint", "--tile-size", "256",
        "--overlap", "64", "--region-size", "300", "--out", "/tmp/out", "--json",
        more=(*PROGRAM, f"--volume={_readable(tmp_path)}:/scene:ro"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary, after = (json.loads(line) for line in done.stdout.splitlines()[-2:])
    assert (summary["status"], summary["features"], summary["covered"]) == ("SUCCESS", 9, 1.0)
    assert after == {"status": 0, "compiled": []}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("swath", "--help"), "Run machine-learning models"),
        (("prefect", "version"), "3.9"),
        (("python", "-m", "prefect", "version"), "3.9"),
        (("python", "-c", "import flows.sensor, flows.image, flows.region, os; print(os.getcwd())"),
         "/opt/swath"),
        (("cat", "prefect.yaml"), "flows.region.region"),
        ((), "Usage: swath"),
    ],
)  # fmt: skip
def test_commands_are_given_as_they_are(command: tuple[str, ...], says: str) -> None:
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


@pytest.fixture(scope="module")
def described(image: None) -> dict[str, Any]:
    asked = ["podman", "image", "inspect", SWATH]
    found: list[dict[str, Any]] = json.loads(
        subprocess.run(asked, capture_output=True, check=True).stdout
    )
    return found[0]


def test_its_labels_have_version_and_revision(described: dict[str, Any]) -> None:
    prefix = "org.opencontainers.image."
    labels = {
        name.removeprefix(prefix): value
        for name, value in described["Config"]["Labels"].items()
        if name.startswith(prefix)
    }
    assert labels["title"] == "Swath"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (labels["version"], labels["licenses"]) == (project["version"], project["license"])
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels["revision"])
    assert labels["base.name"].startswith("localhost/swath-debian:")
    assert described["User"] == "10001:10001"


@pytest.fixture
def server() -> Iterator[str]:
    """A container in which a Prefect server starts."""
    command = ("python", "-m", "prefect", "server", "start", "--host", "0.0.0.0")
    more = ("--detach", "--env=PREFECT_SERVER_UI_ENABLED=false")
    name = run(*command, more=more).stdout.strip()
    yield name
    subprocess.run(["podman", "rm", "--force", "--time=0", name], capture_output=True, check=True)


def test_a_server_that_does_not_answer_is_unhealthy(server: str, described: dict[str, Any]) -> None:
    kind, *check = described["Healthcheck"]["Test"]
    assert kind == "CMD"

    def inside(*command: str) -> int:
        return subprocess.run(["podman", "exec", server, *command], check=False).returncode

    listens = "import socket; socket.create_connection(('127.0.0.1', 4200)).close()"
    deadline = time.monotonic() + 120
    while inside("python", "-c", listens) and time.monotonic() < deadline:
        assert inside(*check) == 0  # what does not listen yet does not fail
        time.sleep(1)
    assert inside(*check) == 0
    where = ["podman", "inspect", "--format", "{{.State.Pid}}", server]
    first = psutil.Process(int(subprocess.run(where, capture_output=True, check=True).stdout))
    for process in (first, *first.children(recursive=True)):
        process.suspend()
    assert inside(*check) != 0


def _readable(folder: Path) -> Path:
    """A folder that any user may read, below those that only we may enter: it is mounted."""
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins(lock: Path) -> set[tuple[str, str]]:
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE)
    return {(_normal(name), version) for name, version in found}
