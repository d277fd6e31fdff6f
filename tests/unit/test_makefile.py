"""`make setup` looks for a supported Python before it installs anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what `make setup` reads, in which nothing is set up."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(clone: Path, *words: str, path: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("make")
    assert program is not None
    return subprocess.run(
        [program, *words],
        cwd=clone,
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def fake_python(folder: Path, name: str, version: tuple[int, int]) -> Path:
    """A Python that says it has another version; what it is asked to run besides is noted."""
    program = folder / name
    program.write_text(
        f"""#!/bin/sh
case "$2" in
*version_info*) exec {sys.executable} -c "import sys; sys.version_info = {version}; $2" ;;
esac
echo "$0 $@" >> {folder}/asked
exit 1
"""
    )
    program.chmod(0o755)
    return program


def test_without_a_python_it_names_the_versions_it_needs_and_installs_nothing(clone: Path) -> None:
    done = make(clone, "setup", path=clone / "nowhere")
    assert done.returncode != 0
    assert "Swath needs Python 3.11, 3.12, 3.13 or 3.14." in done.stderr
    assert "make PYTHON=/path/to/python3.13" in done.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("version", [(3, 10), (3, 15)])
def test_a_python_of_another_version_is_refused_by_name(
    clone: Path, version: tuple[int, int]
) -> None:
    python = fake_python(clone, "python", version)
    done = make(clone, "setup", f"PYTHON={python}", path=clone / "nowhere")
    assert done.returncode != 0
    assert f"and {python} is another version" in done.stderr
    assert not (clone / "asked").exists()


def test_the_newest_supported_python_is_used(clone: Path) -> None:
    for name, version in {"python3.13": (3, 13), "python3.12": (3, 12), "python3": (3, 15)}.items():
        fake_python(clone, name, version)
    make(clone, "setup", path=clone)
    assert (clone / "asked").read_text().startswith(f"{clone}/python3.13 ")
    assert " -m venv --clear .venv" in (clone / "asked").read_text()


def test_a_supported_python3_is_used_if_no_command_has_a_version_in_its_name(clone: Path) -> None:
    fake_python(clone, "python3", (3, 14))
    make(clone, "setup", path=clone)
    assert f"{clone}/python3 -m venv" in (clone / "asked").read_text()
