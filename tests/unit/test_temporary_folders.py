"""Temporary folders: removed at the end, or by another process if their own was killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.storage.temporary import remove_all, temporary_folder

HOLD = """
import time
from tasks.storage.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep(120)
"""


@pytest.fixture(autouse=True)
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    tempfile.tempdir = None


def test_a_folder_is_removed_when_its_context_is_left(tmp: Path) -> None:
    with temporary_folder() as folder:
        assert folder.parent == tmp
        (folder / "file").touch()
        with temporary_folder() as other:
            assert other != folder
        assert folder.is_dir()
    assert list(tmp.iterdir()) == []


def test_a_fork_leaves_the_folder_of_its_parent(tmp: Path) -> None:
    program = """
import os
from tasks.storage.temporary import temporary_folder
with temporary_folder() as folder:
    if child := os.fork():
        os.waitpid(child, 0)
        print(folder.is_dir())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert run.stdout == b"True\n"
    assert list(tmp.iterdir()) == []


def test_all_folders_are_removed_when_the_process_ends_early(tmp: Path) -> None:
    with temporary_folder() as folder:
        (folder / "file").touch()
        remove_all()
        assert list(tmp.iterdir()) == []


def test_only_the_folders_of_killed_processes_are_removed(tmp: Path) -> None:
    (tmp / "swath-work-file").touch()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        with temporary_folder():
            assert (theirs / "file").exists()
        process.kill()
        process.wait(60)
        assert (theirs / "file").exists()
        with temporary_folder():
            assert not theirs.exists()
    assert [path.name for path in tmp.iterdir()] == ["swath-work-file"]
