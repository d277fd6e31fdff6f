"""Publish an image's features and its ledger of tiles to every output of the request.

The files that an image has in one folder or prefix belong together. Files of an earlier run under
the same names that this run does not replace are removed first, for example the features if now
every tile failed; then the features are written, and the ledger last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import PublishError, SwathError
from tasks.imagery import Georeference, Image
from tasks.publish.coverage_file import write_coverage
from tasks.publish.feature_batches import FeatureBatch, feature_batches
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.formats import COVERAGE, FILE_ENDINGS, FORMATS
from tasks.publish.kinesis import write_kinesis
from tasks.publish.outputs import file_uri
from tasks.request import FileOutput, KinesisOutput, Output, Request, S3Output
from tasks.settings import settings
from tasks.storage import objects
from tasks.storage.temporary import temporary_folder

if TYPE_CHECKING:
    from tasks.publish.preview import FeatureLayer

ReadDetections = Callable[[], Iterable[pa.Table]]
"""Reads the merged detections from the beginning: tables of `detections.SCHEMA`."""


@dataclass(frozen=True)
class ImageResults:
    """The results of an image's run, ready to be published.

    Attributes:
        read_detections: Reads the merged detections each time it is called: tables of
            `detections.SCHEMA` by tile and ordinal, each loaded only after the one before it was
            used. None if every tile failed.
        metadata: What all features have in common.
        ledger: Table of `coverage.MEASURED` with all tiles of the image.
        georeference: The image's georeference, or None.
    """

    read_detections: ReadDetections | None
    metadata: FeatureMetadata
    ledger: pa.Table
    georeference: Georeference | None

    def batches(self) -> Iterator[FeatureBatch]:
        """The features, in the order of tile and ordinal."""
        tables = () if self.read_detections is None else self.read_detections()
        return feature_batches(tables, self.georeference, self.metadata)


@dataclass(frozen=True)
class Published:
    """What was published.

    Attributes:
        uris: URI of each file and stream by its name: `geojson`, `parquet`, `coverage` or
            `kinesis`. A name that an earlier output has already gets the number of its output, as
            in `geojson-2`.
        repaired: Number of features whose geometry was invalid and was changed to a valid one.
        classes: Number of features of each class, the most frequent first.
        layer: The features for a preview; None if none was asked for.
    """

    uris: dict[str, str]
    repaired: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    layer: FeatureLayer | None = None


def publish_image(
    request: Request,
    image: Image,
    read_detections: ReadDetections | None,
    ledger: pa.Table,
    inferred: datetime,
    *,
    preview_size: int | None = None,
) -> Published:
    """Publish the results of an image to the outputs of its request.

    Args:
        request: Names the outputs, the job and the properties to add to each feature.
        image: Its georeference places the detections on the Earth.
        read_detections: As in `ImageResults`.
        ledger: Table of `coverage.MEASURED`.
        inferred: Time of inference for all features: the start of the run, so that repeating the
            publication gives the same bytes.
        preview_size: Pixels of the longer side of a preview whose features are collected on the
            way; None for no preview.

    Raises:
        PublishError: As `publish`.
    """
    metadata = FeatureMetadata(
        job_id=request.job_id,
        image_url=image.url,
        inference_time=inferred.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        source_metadata=image.source_metadata,
        feature_properties=request.feature_properties,
    )
    results = ImageResults(read_detections, metadata, ledger, image.georeference)
    stem = request.file_names()[image.url]
    new_layer: Callable[[], FeatureLayer] | None = None
    if preview_size is not None:
        # late: a job without a preview does not need the imports
        from tasks.publish.preview import FeatureLayer  # noqa: PLC0415

        new_layer = partial(FeatureLayer, image.size, preview_size)
    return publish(request.outputs, results, stem, settings().local_roots, new_layer)


def publish(
    outputs: Sequence[Output],
    results: ImageResults,
    stem: str,
    roots: Sequence[Path] = (),
    new_layer: Callable[[], FeatureLayer] | None = None,
) -> Published:
    """Write results to every output; an output that fails does not stop the others.

    Args:
        outputs: The outputs of the request.
        results: Detections and ledger, or the ledger alone.
        stem: File name without the ending of the format: the image's own file name.
        roots: Folders that the operator allows local outputs in.
        new_layer: Makes an empty layer of a preview, which the features are added to; or None.

    Raises:
        PublishError: At least one output failed; the message names them and what was published.
    """
    uris: dict[str, str] = {}
    failed: list[str] = []
    batches = _CountedBatches(results, new_layer)
    with temporary_folder() as folder, _withdrawn_if_interrupted(uris):
        to_files = any(output.type != "Kinesis" for output in outputs)
        files = _write_files(folder, results, batches) if to_files else {}
        for number, output in enumerate(outputs, start=1):
            try:
                written = (
                    _put_records(output, results, batches)
                    if isinstance(output, KinesisOutput)
                    else _put_files(output, files, stem, roots)
                )
                for name, uri in written:
                    uris[f"{name}-{number}" if name in uris else name] = uri
            except SwathError as error:
                failed.append(f"outputs[{number - 1}]: {error}")
    if failed:
        published = ", ".join(uris.values()) or "nothing"
        raise PublishError(f"{' '.join(failed)} Published nevertheless: {published}.")
    classes = dict(batches.classes.most_common())
    return Published(uris, batches.repaired, classes, batches.layer)


@contextmanager
def _withdrawn_if_interrupted(uris: Mapping[str, str]) -> Iterator[None]:
    """Remove the files that were written if the process is being ended: some would be missing.

    Args:
        uris: As in `Published`; files are added to it as they are written.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        for name, uri in uris.items():
            if not name.startswith("kinesis"):
                objects.remove_object(uri)
        raise


class _CountedBatches:
    """The features of an image, for one or more passes.

    Attributes:
        repaired: Features with a repaired geometry, as the last complete pass found.
        classes: Features of each class, as the last complete pass found.
        layer: The features for a preview, from the last complete pass; or None.
    """

    def __init__(self, results: ImageResults, new_layer: Callable[[], FeatureLayer] | None) -> None:
        self._results = results
        self._new_layer = new_layer
        self.repaired = 0
        self.classes: Counter[str] = Counter()
        self.layer = new_layer and new_layer()

    def __iter__(self) -> Iterator[FeatureBatch]:
        repaired, classes = 0, Counter[str]()
        layer = self._new_layer and self._new_layer()
        for batch in self._results.batches():
            table = batch.features.table
            repaired += int(batch.features.repaired.sum())
            for each in pc.value_counts(table["class_name"]).to_pylist():
                classes[each["values"]] += each["counts"]
            if layer is not None:
                layer.add(table)
            yield batch
        self.repaired, self.classes, self.layer = repaired, classes, layer


def _write_files(
    folder: Path, results: ImageResults, batches: Iterable[FeatureBatch]
) -> dict[str, Path]:
    """Write each kind of file once, into a local folder, for all outputs."""
    try:
        return {
            **(
                {} if results.read_detections is None else _write_features(folder, results, batches)
            ),
            COVERAGE: _write_coverage(folder, results),
        }
    except OSError as error:
        raise PublishError(
            f"Cannot write the results to {folder} before they are published: {error}. "
            "Make room there, or point TMPDIR at a larger disk."
        ) from error


def _write_features(
    folder: Path, results: ImageResults, batches: Iterable[FeatureBatch]
) -> dict[str, Path]:
    """Write all formats side by side, so that detections are read and geolocated once."""
    files = {name: folder / name for name in FORMATS}
    georeferenced = results.georeference is not None
    with ExitStack() as open_files:
        writers = [
            open_files.enter_context(
                FORMATS[name].open_writer(path, results.metadata, georeferenced=georeferenced)
            )
            for name, path in files.items()
        ]
        for batch in batches:
            for write in writers:
                write(batch)
    return files


def _write_coverage(folder: Path, results: ImageResults) -> Path:
    path = folder / COVERAGE
    write_coverage(path, results.ledger, results.georeference)
    return path


def _put_files(
    output: S3Output | FileOutput, files: Mapping[str, Path], stem: str, roots: Sequence[Path]
) -> Iterator[tuple[str, str]]:
    """Write the files of one output; yields the name and URI of each when it is complete."""
    uris = {
        name: file_uri(output, f"{stem}.{ending}", roots) for name, ending in FILE_ENDINGS.items()
    }
    for name in uris.keys() - files.keys():
        objects.remove_object(uris[name])
    for name, path in files.items():
        objects.put(uris[name], path)
        yield name, uris[name]


def _put_records(
    output: KinesisOutput, results: ImageResults, batches: Iterable[FeatureBatch]
) -> Iterator[tuple[str, str]]:
    """Write the features to a stream; yields its name and URI. The ledger is for files only."""
    if results.read_detections is not None:
        write_kinesis(output.stream, batches, results.metadata, output.batch_size)
        yield "kinesis", f"kinesis://{output.stream}"
