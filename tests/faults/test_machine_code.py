"""Machine code that was kept and is damaged costs the time to compile, and no result."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
from tasks.merge.groups import firsts, unite
import numpy as np
groups = np.arange(4)
unite(groups, np.array([1]), np.array([3]))
print(firsts(groups, np.arange(4)).tolist())
"""


def run(house: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=house, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or done.stderr


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tasks alone, without what is kept of them here."""
    folder = tmp_path_factory.mktemp("house")
    merge = folder / "tasks" / "merge"
    merge.mkdir(parents=True)
    for package in (merge, merge.parent):
        (package / "__init__.py").touch()
    for name in ("compiled.py", "groups.py"):
        (merge / name).write_bytes((ROOT / "tasks" / "merge" / name).read_bytes())
    return folder


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\x80\x04"])
@pytest.mark.parametrize("files", ["*.nbi", "*.nbc"])
def test_damaged_files_are_made_anew(house: Path, files: str, damage: bytes) -> None:
    assert run(house) == "[0, 1, 2, 1]"
    kept = list(house.rglob(files))
    assert kept
    for file in kept:
        file.write_bytes(damage)
    assert run(house) == "[0, 1, 2, 1]"
    assert all(file.read_bytes() != damage for file in kept if file.exists())


WATCHED = """
import os
from numba.core import event
import tasks.merge.compiled as compiled

class Listener(event.Listener):
    def on_start(self, event):
        print("compiled", event.data["dispatcher"].py_func.__name__)

    def on_end(self, event):
        pass

event.register("numba:compile", Listener())
folder = compiled._FOLDER
print("writable" if os.access(folder if folder.exists() else folder.parent, os.W_OK) else "fixed")
"""
# Root may write where nobody may: this takes that right from it
POWERLESS = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []


def lines(house: Path) -> list[str]:
    """What the program says where it may write nothing, and what it compiles."""
    done = subprocess.run(
        [*POWERLESS, sys.executable, "-c", WATCHED + PROGRAM],
        cwd=house, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@contextmanager
def fixed(house: Path) -> Iterator[None]:
    """While the block lasts, nothing can be written in the house."""
    folders = [folder for folder in house.rglob("*") if folder.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    yield
    for folder in folders:
        folder.chmod(0o755)


def test_machine_code_that_cannot_be_written_is_used(house: Path) -> None:
    assert run(house) == "[0, 1, 2, 1]"
    with fixed(house):
        assert lines(house) == ["fixed", "[0, 1, 2, 1]"]


def test_what_is_missing_where_nothing_can_be_written_is_compiled(house: Path) -> None:
    assert run(house) == "[0, 1, 2, 1]"
    for file in house.rglob("*.nbi"):
        file.unlink()
    before = sorted(house.rglob("*"))
    with fixed(house):
        said = lines(house)
    assert (said[0], said[-1]) == ("fixed", "[0, 1, 2, 1]")
    assert "compiled unite" in said
    assert sorted(house.rglob("*")) == before


def test_code_of_another_processor_is_not_used(house: Path) -> None:
    assert run(house) == "[0, 1, 2, 1]"
    kept = {file: file.read_bytes() for file in house.rglob("*.nbc")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_CPU_NAME", "generic")
        assert run(house) == "[0, 1, 2, 1]"
    assert len(list(house.rglob("*.nbc"))) == 2 * len(kept)
    assert all(file.read_bytes() == code for file, code in kept.items())
