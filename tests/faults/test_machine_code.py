"""Cached machine code: used where it cannot be written; made anew if damaged or out of date."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = """
from tasks.merge.compiled import inlined

@inlined
def scaled(value):
    return value * 2
"""
SUMS = """
from tasks.merge.compiled import compiled
from tasks.merge.steps import scaled

@compiled
def total(count):
    result = 0
    for value in range(count):
        result += scaled(value)
    return result
"""
PROGRAM = """
import numba
from numba.core import event

class Listener(event.Listener):
    def on_start(self, event):
        print("compiled", event.data["dispatcher"].py_func.__name__)

    def on_end(self, event):
        pass

event.register("numba:compile", Listener())
from tasks.merge.sums import total
print(total(4))
"""
COMPILED = ["compiled total", "compiled scaled", "12"]
# Root can write to any folder: these options take that right from the process.
POWERLESS = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []


def run(package: Path, *before: str, **variables: str) -> list[str]:
    """What a process with the package prints: the functions that it compiles, and the result."""
    environment = {name: value for name, value in os.environ.items() if "NUMBA" not in name}
    done = subprocess.run(
        [*before, sys.executable, "-c", PROGRAM],
        cwd=package,
        env=environment | {"TMPDIR": str(package.parent / "tmp")} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of two modules beside those of `tasks.merge` that compile, already compiled."""
    folder = tmp_path_factory.mktemp("compiled") / "package"
    merge = folder / "tasks" / "merge"
    merge.mkdir(parents=True)
    (folder.parent / "tmp").mkdir()
    for package in (merge, merge.parent):
        (package / "__init__.py").touch()
    for module in ("compiled.py", "machine_code.py"):
        shutil.copy(ROOT / "tasks" / "merge" / module, merge)
    (merge / "steps.py").write_text(STEPS)
    (merge / "sums.py").write_text(SUMS)
    assert run(folder) == COMPILED
    return folder


@pytest.fixture
def package(compiled_once: Path) -> Iterator[Path]:
    """The same for one test, which may change it."""
    kept = compiled_once.parent / "kept"
    shutil.copytree(compiled_once, kept, symlinks=True)
    yield compiled_once
    shutil.rmtree(compiled_once)
    kept.rename(compiled_once)


def files(package: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in package.rglob("*.nb[ic]")}


@contextmanager
def read_only(package: Path) -> Iterator[None]:
    """While the block lasts, nothing can be written in the package."""
    folders = [package, *(folder for folder in package.rglob("*") if folder.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield
    for folder in folders:
        folder.chmod(0o755)


def test_a_later_process_compiles_nothing(package: Path) -> None:
    assert run(package) == ["12"]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda _: b"",
        lambda content: content[:-9],
        lambda content: content[:2] + bytes(len(content) - 3) + content[-1:],
    ],
    ids=["empty", "cut off", "zeros"],
)
@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
def test_damaged_machine_code_is_compiled_again(
    package: Path, pattern: str, damaged: Callable[[bytes], bytes]
) -> None:
    intact = {file: content for file, content in files(package).items() if file.match(pattern)}
    assert intact
    for file, content in intact.items():
        file.write_bytes(damaged(content))
    with read_only(package):
        assert run(package, *POWERLESS) == COMPILED
    assert run(package) == COMPILED
    assert run(package) == ["12"]


def test_machine_code_that_cannot_be_written_is_used(package: Path) -> None:
    before = files(package)
    with read_only(package):
        assert run(package, *POWERLESS) == ["12"]
    assert files(package) == before
    assert not list((package.parent / "tmp").iterdir())


def test_missing_machine_code_is_compiled_even_if_no_folder_is_writable(package: Path) -> None:
    for file in package.rglob("*.total-*.nbi"):
        file.unlink()
    before = files(package)
    with read_only(package):
        said = run(package, *POWERLESS)
    assert (said[0], said[-1]) == ("compiled total", "12")
    assert files(package) == before
    assert not list((package.parent / "tmp").iterdir())


def test_a_package_that_was_never_compiled_works_even_if_no_folder_is_writable(
    package: Path,
) -> None:
    shutil.rmtree(package / "tasks" / "merge" / "__pycache__")
    with read_only(package):
        assert run(package, *POWERLESS) == COMPILED


def test_a_function_is_compiled_again_when_a_function_of_another_module_changes(
    package: Path,
) -> None:
    (package / "tasks" / "merge" / "steps.py").write_text(STEPS.replace("* 2", "* 3"))
    assert run(package) == [*COMPILED[:-1], "18"]


def test_machine_code_of_another_processor_is_not_used(package: Path) -> None:
    before = files(package)
    assert run(package, NUMBA_CPU_NAME="generic") == COMPILED
    code = {file: content for file, content in before.items() if file.suffix == ".nbc"}
    after = files(package)
    assert all(after[file] == content for file, content in code.items())
    assert run(package) == run(package, NUMBA_CPU_NAME="generic") == ["12"]


def test_the_folder_of_numba_cache_dir_is_used(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    before = files(package)
    assert run(package, NUMBA_CACHE_DIR=str(folder)) == COMPILED
    assert run(package, NUMBA_CACHE_DIR=str(folder)) == ["12"]
    assert files(folder)
    assert files(package) == before


def test_a_disk_that_takes_no_file_costs_the_time_to_compile(package: Path) -> None:
    shutil.rmtree(package / "tasks" / "merge" / "__pycache__")
    assert run(package, "prlimit", "--fsize=0") == COMPILED
    assert run(package) == COMPILED
    assert run(package) == ["12"]
