"""The package as `pip install` gets it: what is in it, and what it says of what is not."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--target=wheel", "--directory", str(folder)]
    command = [sys.executable, "-m", "hatchling", "build", *options]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (path,) = folder.glob("*.whl")
    return ZipFile(path)


def test_it_holds_three_packages_with_types_the_python_api_and_no_harbour(wheel: ZipFile) -> None:
    names = wheel.namelist()
    tops = {name.partition("/")[0] for name in names if not name.startswith("swath-")}
    assert tops == {"deployments", "flows", "tasks", "swath.py"}
    assert {f"{folder}/py.typed" for folder in tops - {"swath.py"}} <= set(names)
    assert "deployments/demo/show.py" in names
    assert not [name for name in names if name.startswith("deployments/demo/harbour")]
    page = {"page.html", "page.css", "page.js", "deckgl.min.js", "deckgl.LICENSE.txt"}
    assert {f"tasks/publish/page/source/{name}" for name in page} <= set(names)


def test_a_container_image_is_built_of_all_that_it_holds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    context = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in included} <= set(context)


def test_it_has_a_version_and_a_licence(wheel: ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    told = message_from_string(wheel.read(metadata).decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (told["Version"], told["License-Expression"]) == (project["version"], "Apache-2.0")
    (licence,) = (name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
    assert "Apache License" in wheel.read(licence).decode()


def test_the_python_api_works_from_it(wheel: ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "installed")
    program = (
        "import numpy, swath; print(swath.__file__); "
        "print(swath.run(numpy.zeros((64, 64)), model=lambda tiles: [[]] * len(tiles)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    where, result = done.stdout.splitlines()
    assert Path(where) == tmp_path / "installed" / "swath.py"
    assert result.startswith("<swath.Result SUCCESS: 0 features")


def test_the_demonstration_says_what_an_installed_package_lacks(
    wheel: ZipFile, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli", "demo"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "swath: --image: the generated harbour is part of a clone" in done.stderr
    assert "make demo" in done.stderr
    assert not (tmp_path / "demo").exists()
