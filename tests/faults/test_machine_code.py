"""Machine code that was kept and is damaged costs the time to compile, and no result."""

from __future__ import annotations

import subprocess
import sys
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
