"""What a stack keeps in its folder from one start to the next, and on which ports it listens.

Queues, buckets and runs name each other by URL, and clients hold these URLs: so a stack that is
started again listens on the same ports.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from deployments.local.loopback import free_port
from tasks.errors import StackError

_FOLDERS = ("aws", "prefect")
_WRITERS = ("ministack", "prefect")  # packages that write them


class _Record(BaseModel):
    """The content of the file that describes what is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: dict[str, str]
    ports: dict[str, int]


class Kept:
    """The state of a stack in its folder: of the emulated AWS, and of Prefect.

    Args:
        folder: Folder of the stack.
        fresh: Whether to remove what it holds.
        progress: Called with a line if something is kept, and about a port that is not free.

    Raises:
        StackError: What is kept was written by a newer version of Prefect or of the emulator.
    """

    def __init__(self, folder: Path, *, fresh: bool, progress: Callable[[str], None]) -> None:
        self._path, self._progress = folder / "kept.json", progress
        self._ports: dict[str, int] = {}
        if fresh or not self._path.is_file():  # without it, an earlier version left the rest there
            _remove(folder)
            self._path.unlink(missing_ok=True)
            return
        record = _Record.model_validate_json(self._path.read_bytes())
        _check_versions(record.versions, folder)
        self._ports = record.ports
        progress(f"Goes on with the queues, buckets and runs in {folder}; --fresh begins anew")

    def port(self, name: str, preferred: int) -> int:
        """A free port: that of the last time if possible, or the preferred one, or any other.

        Args:
            name: What listens on it, in words.
            preferred: Port to try if there was no last time.
        """
        before = self._ports.get(name)
        port = free_port(before or preferred)
        if before not in {None, port}:
            self._progress(
                f"Port {before} is taken, so {name} listens on {port}; requests and runs of the "
                f"last time may name {before}."
            )
        if port != before:
            self._ports[name] = port
            self._write()
        return port

    def _write(self) -> None:
        versions = {name: version(name) for name in _WRITERS}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(_Record(versions=versions, ports=self._ports).model_dump_json(indent=2))
        part.replace(self._path)


def _remove(folder: Path) -> None:
    for name in _FOLDERS:
        if (folder / name).exists():
            shutil.rmtree(folder / name)


def _check_versions(versions: dict[str, str], folder: Path) -> None:
    """Raise StackError if a package is older than the one that wrote; a newer one can read it."""
    for name, wrote in versions.items():
        if _ordered(version(name)) < _ordered(wrote):
            raise StackError(
                f"{folder} was written by {name} {wrote}, and {version(name)} cannot read it. "
                f"Install {name}=={wrote}, or begin anew with `swath up --fresh`."
            )


def _ordered(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
