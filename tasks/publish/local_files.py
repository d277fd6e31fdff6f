"""The files of an image, written once into a local folder for all outputs."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks.errors import PublishError
from tasks.publish.coverage_file import write_coverage
from tasks.publish.feature_batches import FeatureBatch
from tasks.publish.feature_style import feature_style
from tasks.publish.format_file import FormatFile
from tasks.publish.formats import COVERAGE, FORMATS, STYLE, kind_of
from tasks.publish.image_results import CountedBatches, ImageResults
from tasks.storage.temporary import temporary_folder


@contextmanager
def staging_folder() -> Iterator[Path]:
    """A temporary folder for the files.

    Raises:
        PublishError: It cannot be made.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder())
        except OSError as error:
            raise _no_room(tempfile.gettempdir(), error) from error
        yield folder


def write_files(
    folder: Path, results: ImageResults, batches: Iterable[FeatureBatch], formats: Collection[str]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Write each kind of file: the features in some formats, as far as there are any; the ledger.

    The formats are written side by side, so that detections are read and geolocated once. One that
    fails does not stop the others, and what it has written makes room for them.

    Args:
        folder: Where to write; it exists.
        results: The results.
        batches: Their features.
        formats: Names in `FORMATS`; others are ignored.

    Returns:
        The path of each file by its kind, the ledger last; the reason of each format that failed.

    Raises:
        PublishError: The ledger cannot be written.
        DamagedStoreError: Kept answers that the results are read from are damaged.
    """
    there = results.read_detections is not None
    provenance = results.metadata.provenance
    ledger = folder / COVERAGE
    try:  # first, as without it nothing is published
        write_coverage(ledger, results.ledger, results.georeference, provenance)
    except OSError as error:
        raise _no_room(folder, error) from error
    with _without_earlier_garbage(), ExitStack() as open_files:
        files = {
            name: open_files.enter_context(
                FormatFile(folder / kind_of(name, results.georeference), each.open_writer, results)
            )
            for name, each in FORMATS.items()
            if name in formats and (there or each.without_features)
        }
        for batch in batches if formats and there else ():
            for file in files.values():
                file.append(batch)
        for file in files.values():
            file.complete()
    failed = {name: file.failure for name, file in files.items() if file.failure}
    whole = {file.path.name: file.path for name, file in files.items() if name not in failed}
    return {**whole, COVERAGE: ledger}, failed


def write_style(folder: Path, results: ImageResults, batches: CountedBatches) -> Path:
    """Write the style of the features for QGIS, after a pass over them; returns the path.

    Raises:
        OSError: It cannot be written.
    """
    path, pixels = folder / STYLE, results.metadata.pixel_metres
    path.write_text(feature_style(batches.classes, batches.dimension, pixels), "utf-8")
    return path


@contextmanager
def _without_earlier_garbage() -> Iterator[None]:
    """Spare Python's garbage collector the objects of before, as every batch makes it run again."""
    if gc.get_freeze_count():  # by somebody else
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _no_room(folder: Path | str, error: OSError) -> PublishError:
    return PublishError(
        f"Cannot write the results to {folder} before they are published: {error}. "
        "Make room there, or point TMPDIR at a larger disk."
    )
