"""Publish an image's features and its ledger of tiles to every output of the request.

The files that an image has in one folder or prefix belong together, and a manifest names them
(`tasks.publish.claim` says how). Files of an earlier run under the same names that this run does
not replace are removed first, for example the features if now every tile failed; then the features
are written, then the ledger, and the manifest last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from tasks.errors import DamagedStoreError, PublishError, SwathError
from tasks.imagery import Image
from tasks.imagery.georeference.resampled import metres_per_pixel
from tasks.publish.claim import Claim, claim
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.formats import FILE_ENDINGS, STAC, STYLE, STYLED, format_of
from tasks.publish.image_results import CountedBatches, ImageResults, Origin, ReadDetections
from tasks.publish.kinesis import write_kinesis
from tasks.publish.local_files import staging_folder, write_files, write_style
from tasks.publish.provenance import Provenance
from tasks.publish.rasters import raster_files
from tasks.publish.stac import stac_item
from tasks.raster import Raster
from tasks.request import EndpointType, KinesisOutput, Output, Request
from tasks.settings import ForeignResults, settings
from tasks.storage.conditional import Pieces

if TYPE_CHECKING:
    from tasks.publish.preview import FeatureLayer, RasterLayer


Standing = Mapping[int, Mapping[str, str]]
"""URI of each file and stream of the outputs that an earlier run has published to, by index."""


@dataclass(frozen=True)
class Published:
    """What was published.

    Attributes:
        uris: URI of each file and stream by its kind, such as `geojson`, `parquet`, `coverage` or
            `kinesis`. A name that an earlier output has already gets the number of its output, as
            in `geojson-2`.
        repaired: Number of features whose geometry was invalid and was changed to a valid one.
        classes: Number of features of each class, the most frequent first.
        failed: The reason of each output that failed while others did not, by its index.
        layer: The features or the raster for a preview; None if none was asked for.
    """

    uris: dict[str, str]
    repaired: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)
    layer: FeatureLayer | RasterLayer | None = None


def publish_image(
    request: Request,
    image: Image,
    read_detections: ReadDetections | None,
    ledger: pa.Table,
    provenance: Provenance,
    *,
    raster: Raster | None = None,
    standing: Standing | None = None,
    model_version: str = "",
    preview_size: int | None = None,
) -> Published:
    """Publish the results of an image to the outputs of its request.

    Args:
        request: Names the outputs, the job and the properties to add to each feature.
        image: Its georeference places the detections on the Earth.
        read_detections: As in `ImageResults`.
        ledger: Table of `coverage.MEASURED`.
        provenance: The origin of the results, which every file has.
        raster: The raster of the image, if the model answers with pixels.
        standing: As in `publish`.
        model_version: As in `Origin`.
        preview_size: Pixels of the longer side of a preview whose features are collected on the
            way, or whose raster is reduced; None for no preview.

    Raises:
        PublishError: As `publish`.
    """
    metadata = FeatureMetadata(
        provenance,
        image.source_metadata,
        request.feature_properties,
        oriented=raster is None
        and request.image_processor.type in {EndpointType.ONNX, EndpointType.OIP_ENDPOINT},
        embedding_size=request.tile_output.size if request.tile_output else None,
        pixel_metres=metres_per_pixel(image.georeference, image.size),
    )
    origin = Origin(request, image, raster, model_version)
    rasters = raster_files(image, raster, provenance) if raster else {}
    results = ImageResults(read_detections, metadata, ledger, image.georeference, rasters, origin)
    stem = request.file_names()[image.url]
    new_layer: Callable[[], FeatureLayer] | None = None
    layer: RasterLayer | None = None
    if preview_size is not None:
        # late: a job without a preview does not need the imports
        from tasks.publish.preview import FeatureLayer, layer_of_raster  # noqa: PLC0415

        if raster is None:
            new_layer = partial(FeatureLayer, image.size, preview_size)
        else:
            layer = layer_of_raster(raster, preview_size)
    roots, foreign = settings().local_roots, settings().foreign_results
    published = publish(
        request.outputs, results, stem, roots, new_layer, foreign=foreign, standing=standing
    )
    return published if layer is None else replace(published, layer=layer)


def publish(
    outputs: Sequence[Output],
    results: ImageResults,
    stem: str,
    roots: Sequence[Path] = (),
    new_layer: Callable[[], FeatureLayer] | None = None,
    *,
    foreign: ForeignResults = ForeignResults.VERSION,
    standing: Standing | None = None,
) -> Published:
    """Write results to every output; an output that fails does not stop the others.

    Args:
        outputs: The outputs of the request.
        results: Detections and ledger, or the ledger alone.
        stem: File name without the ending of the format: the image's own file name.
        roots: Folders that the operator allows local outputs in.
        new_layer: Makes an empty layer of a preview, which the features are added to; or None.
        foreign: What happens to the results of another job under the same name.
        standing: Outputs that an earlier run has published to, and that are left alone.

    Raises:
        PublishError: Every output failed; the message names the reasons.
        DamagedStoreError: Kept answers that the results are read from are damaged.
    """
    uris: dict[str, str] = {}
    failed: dict[int, str] = {}
    standing = standing or {}
    batches = CountedBatches(results, new_layer)
    with staging_folder() as folder, _given_up_if_interrupted() as claims:
        missing = [each for index, each in enumerate(outputs) if index not in standing]
        content = _Content.write(folder, results, batches, missing)
        for index, output in enumerate(outputs):
            try:
                if index in standing:
                    written = dict(standing[index])
                elif isinstance(output, KinesisOutput):
                    written = _put_records(output, results, batches)
                else:
                    provenance = results.metadata.provenance
                    kinds = {*content.files, *({STAC} & set(output.formats))}
                    claims.append(
                        claim(output, stem, provenance, kinds=kinds, roots=roots, foreign=foreign)
                    )
                    written = content.put(claims[-1], output.formats, results)
                add_uris(uris, written, index + 1)
            except DamagedStoreError:
                raise
            except SwathError as error:
                failed[index] = str(error)
    if failed and len(failed) == len(outputs):
        reasons = " ".join(f"outputs[{index}]: {reason}" for index, reason in failed.items())
        raise PublishError(f"{reasons} Nothing is published.")
    classes = dict(batches.classes.most_common())
    return Published(uris, batches.repaired, classes, failed, batches.layer)


def add_uris(uris: dict[str, str], written: Mapping[str, str], number: int) -> None:
    """Add the URIs of an output to those of the outputs before it, named as in `Published`.

    Args:
        uris: Of the outputs before it.
        written: Of the output, by the kind of file.
        number: Number of the output, from 1.
    """
    for name, uri in written.items():
        uris[f"{name}-{number}" if name in uris else name] = uri


@contextmanager
def _given_up_if_interrupted() -> Iterator[list[Claim]]:
    """Give up claims if the process is being ended: some of their files would be missing.

    Yields:
        A list that claims are added to as they are taken.
    """
    claims: list[Claim] = []
    try:
        yield claims
    except (KeyboardInterrupt, SystemExit):
        for claimed in claims:
            with suppress(PublishError):  # it was lost, or the storage does not answer
                claimed.give_up()
        raise


@dataclass(frozen=True)
class _Content:
    """The files of an image, to be put in each output.

    Attributes:
        files: Path of each kind of file, features before the ledger, or a function that gives the
            bytes of one that is put together as it is written.
        counts: What the manifest says of the features.
        with_format: The format with which a kind is put that is no format itself; the others always
            are.
    """

    files: Mapping[str, Path | Pieces]
    counts: Mapping[str, object]
    with_format: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def write(
        cls,
        folder: Path,
        results: ImageResults,
        batches: CountedBatches,
        outputs: Sequence[Output],
    ) -> Self:
        """Write the files that the outputs need, in the union of their formats, into a folder."""
        formats = [output.formats for output in outputs if not isinstance(output, KinesisOutput)]
        if not formats:
            return cls({}, {})
        files = write_files(folder, results, batches, {*chain(*formats)})
        with_format: dict[str, str] = {}
        if STYLED in files and STYLE not in results.rasters:
            files[STYLE] = write_style(folder / STYLE, results, batches)
            with_format[STYLE] = STYLED
        classes = dict(batches.classes.most_common())
        counts = {
            "features": sum(classes.values()),
            "classes": classes,
            "repaired": batches.repaired,
        }
        return cls({**results.rasters, **files}, counts, with_format)

    def put(
        self, claimed: Claim, formats: Collection[str], results: ImageResults
    ) -> dict[str, str]:
        """Put the ledger, and the features in some formats; returns the URI of each file.

        If one cannot be written, the others are removed, as they would not be whole.
        """
        files = {
            kind: path
            for kind, path in self.files.items()
            if (name := self.with_format.get(kind, format_of(kind))) is None or name in formats
        }
        item = {STAC} & set(formats)
        for kind in FILE_ENDINGS.keys() - files.keys() - item:
            claimed.remove(kind)
        try:
            written = {kind: claimed.put(kind, body) for kind, body in files.items()}
            if item:  # it has the checksums of the others
                body = stac_item(results, [*written.values()], claimed.names.stem, self.counts)
                written[STAC] = claimed.put(STAC, lambda: iter([body]))
            claimed.complete(list(written.values()), self.counts)
        except PublishError:
            with suppress(PublishError):
                claimed.withdraw()
            raise
        return {kind: claimed.names.files[kind] for kind in written}


def _put_records(
    output: KinesisOutput, results: ImageResults, batches: CountedBatches
) -> dict[str, str]:
    """Write the features to a stream; returns its URI. The ledger is for files only."""
    if results.read_detections is None:
        return {}
    write_kinesis(output.stream, batches, results.metadata, output.batch_size)
    return {"kinesis": f"kinesis://{output.stream}"}
