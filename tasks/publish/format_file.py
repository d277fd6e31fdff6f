"""The file of one format, which fails without stopping those of the others."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.errors import DamagedStoreError
from tasks.publish.feature_batches import FeatureBatch, WriteBatch
from tasks.publish.image_results import ImageResults

logger = logging.getLogger(__name__)

_GIB = 1 << 30


class FormatFile:
    """A file of a format that is written batch by batch until it is complete, or fails.

    Whatever its writer raises is the file's failure: results that were paid for are published in
    the other formats. Only damage of what the results are read from concerns all of them.

    Attributes:
        path: The file; it is there only if it is complete.
        failure: Why it failed, and the remedy; empty if it did not.
    """

    def __init__(
        self,
        path: Path,
        open_writer: Callable[[Path, ImageResults], AbstractContextManager[WriteBatch]],
        results: ImageResults,
    ) -> None:
        """Write results to a path with a writer of `FORMATS`."""
        self.path = path
        self.failure = ""
        self._writer = ExitStack()
        with self._alone():
            self._write = self._writer.enter_context(open_writer(path, results))

    def append(self, batch: FeatureBatch) -> None:
        """Append a batch, unless the file has failed."""
        if not self.failure:
            with self._alone():
                self._write(batch)

    def complete(self) -> None:
        """Complete the file, unless it has failed."""
        with self._alone():
            self._writer.close()

    def __enter__(self) -> Self:
        """Let the writer clean up when the context is left before the file is complete."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Have a writer that is still open clean up."""
        self._writer.__exit__(kind, error, traceback)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep what is raised in the block as the file's failure."""
        try:
            yield
        except DamagedStoreError:
            raise
        except Exception as error:
            if not isinstance(error, OSError):  # which is the environment's
                logger.exception("%s cannot be written", self.path.name)
            self.failure = failure_of(self.path, error)
            with suppress(Exception):  # of its cleaning up; the first error says why
                self._writer.__exit__(type(error), error, error.__traceback__)
            self.path.unlink(missing_ok=True)


def failure_of(path: Path, error: Exception) -> str:
    """Why a file could not be written, and the remedy."""
    if isinstance(error, OSError):  # of GDAL too, which does not say whether the disk is full
        free = shutil.disk_usage(path.parent).free / _GIB
        return (
            f"Cannot write {path} before it is published: {error}. Make room there (now "
            f"{free:.1f} GiB are free), or point TMPDIR at a larger disk; if there was room, leave "
            "the format out."
        )
    return (
        f"Cannot write {path.name}: {type(error).__name__}: {error}. Leave the format out; the log "
        "has the details of this error, for a report of it."
    )
