"""The totals of all processes of a machine, for Prometheus: each keeps its own in a folder.

A region's process lives for some minutes, so what it counted is kept after its end: whoever serves
the metrics adds the totals of ended processes to one file, and removes theirs.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import orjson

from tasks.telemetry.totals import Totals

_SILENCE = 60.0  # seconds without a new file after which a process without an end may be dead
_ENDED = "ended.json"  # totals of ended processes, and the names of their files
_LIVE, _OVER = ".live.json", ".over.json"  # endings of the files of processes


class ProcessTotals:
    """The totals of this process, in a file of the folder."""

    def __init__(self, folder: Path) -> None:
        """Write nothing yet.

        Args:
            folder: Where the processes of a machine keep their totals; is made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{os.getpid()}-{uuid4().hex}"

    def write(self, totals: Totals, *, over: bool = False) -> None:
        """Write the totals, whole or not at all.

        Args:
            totals: All that this process has counted.
            over: Whether it ends, and counts no more.
        """
        live, partial = Path(f"{self._path}{_LIVE}"), Path(f"{self._path}.partial")
        partial.write_bytes(totals.to_json())
        partial.replace(live)
        if over:
            live.rename(f"{self._path}{_OVER}")


def machine_totals(folder: Path) -> Totals:
    """The totals of all processes that have a folder, ended ones included.

    Files of ended processes are added to one. A process that is interrupted in between counts none
    of them twice: that file names them, and they are removed afterwards. Nor is a process missing
    that ends meanwhile, as the living ones are read first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        living = {_process(path): _living(path) for path in folder.glob(f"*{_LIVE}")}
        totals, known = _ended(folder / _ENDED)
        over = [path for path in sorted(folder.glob("*.json")) if _is_over(path)]
        for path in over:
            if path.name not in known:
                with suppress(ValueError):
                    totals.merge(Totals.from_json(path.read_bytes()))
        totals.gauges = {}
        if over:
            names = orjson.dumps([path.name for path in over])
            partial = folder / f"{_ENDED}.partial"
            partial.write_bytes(names + b"\n" + totals.to_json())
            partial.replace(folder / _ENDED)
        for path in over:
            path.unlink(missing_ok=True)
    for process in living.keys() - set(map(_process, over)):
        totals.merge(living[process])
    return totals


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _ended(path: Path) -> tuple[Totals, set[str]]:
    """The totals of ended processes, and the names of the files that are in them."""
    try:
        names, _, totals = path.read_bytes().partition(b"\n")
        return Totals.from_json(totals), set(orjson.loads(names))
    except (FileNotFoundError, ValueError):
        return Totals(), set()


def _is_over(path: Path) -> bool:
    """Whether a file is of a process that counts no more: it said so, or it is dead."""
    if path.name.endswith(_OVER):
        return True
    if not path.name.endswith(_LIVE) or not _silent(path):
        return False
    return not Path(f"/proc/{path.name.partition('-')[0]}").exists()


def _silent(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > _SILENCE
    return False


def _living(path: Path) -> Totals:
    """The totals of a process; none if it has ended since, or wrote what cannot be read."""
    try:
        totals = Totals.from_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return Totals()
    if _silent(path):
        totals.gauges = {}
    return totals


def _process(path: Path) -> str:
    """The name of a process, from that of its file."""
    return path.name.partition(".")[0]
