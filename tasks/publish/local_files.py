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
from tasks.publish.formats import COVERAGE, FORMATS, kind_of
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
) -> dict[str, Path]:
    """Write each kind of file: the features in some formats, as far as there are any; the ledger.

    The formats are written side by side, so that detections are read and geolocated once.

    Args:
        folder: Where to write; it exists.
        results: The results.
        batches: Their features.
        formats: Names in `FORMATS`.

    Returns:
        The path of each file by its kind, the ledger last.

    Raises:
        PublishError: The folder cannot be written.
    """
    there = results.read_detections is not None
    kinds = {
        kind_of(name, results.georeference): each
        for name, each in FORMATS.items()
        if name in formats and (there or each.without_features)
    }
    files = {kind: folder / kind for kind in (*kinds, COVERAGE)}
    try:
        with _without_earlier_garbage(), ExitStack() as open_files:
            writers = [
                open_files.enter_context(each.open_writer(files[kind], results))
                for kind, each in kinds.items()
            ]
            for batch in batches if kinds and there else ():
                for write in writers:
                    write(batch)
        provenance = results.metadata.provenance
        write_coverage(files[COVERAGE], results.ledger, results.georeference, provenance)
    except OSError as error:
        raise _no_room(folder, error) from error
    return files


def write_style(path: Path, results: ImageResults, batches: CountedBatches) -> Path:
    """Write the style of the features for QGIS, after a pass over them; returns the path.

    Raises:
        PublishError: The folder cannot be written.
    """
    pixels = results.metadata.pixel_metres
    try:
        path.write_text(feature_style(batches.classes, batches.dimension, pixels), "utf-8")
    except OSError as error:
        raise _no_room(path.parent, error) from error
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
