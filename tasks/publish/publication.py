"""Publish an image's features and its ledger of tiles to every output of the request.

The files that an image has in one folder or prefix belong together, and a manifest names them
(`tasks.publish.claim` says how). Files of an earlier run under the same names that this run does
not replace are removed first, for example the features if now every tile failed; then the features
are written, then the ledger, and the manifest last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from tasks.cost.usage import Usage
from tasks.errors import DamagedStoreError, PublishError, SwathError
from tasks.imagery import Image
from tasks.imagery.georeference.resampled import metres_per_pixel
from tasks.publish.claim import Claim, claim
from tasks.publish.content import Content
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.image_results import CountedBatches, ImageResults, Origin, ReadDetections
from tasks.publish.kinesis import write_kinesis
from tasks.publish.local_files import staging_folder
from tasks.publish.manifest import Manifest
from tasks.publish.provenance import Provenance
from tasks.publish.rasters import raster_files
from tasks.raster import Raster
from tasks.request import EndpointType, KinesisOutput, Output, Request
from tasks.settings import ForeignResults, settings

if TYPE_CHECKING:
    from tasks.publish.preview import FeatureLayer, RasterLayer


@dataclass(frozen=True)
class StandingOutput:
    """An output that an earlier run has published the same results to.

    Attributes:
        uris: URI of each of its files, or of its stream.
        manifest: That of its files; the formats that failed are published to it. None of a stream.
    """

    uris: Mapping[str, str]
    manifest: Manifest | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """The formats that it lacks."""
        return tuple(self.manifest.failed) if self.manifest else ()


Standing = Mapping[int, StandingOutput]
"""The outputs of a request that an earlier run has published to, by index."""


class Failure(NamedTuple):
    """What failed of a publication while the rest of it did not.

    Attributes:
        output: Index of an output.
        reason: What happened, and the remedy.
        format: The format that failed alone; None if the output has failed.
    """

    output: int
    reason: str
    format: str | None = None


@dataclass(frozen=True)
class Published:
    """What was published.

    Attributes:
        uris: URI of each file and stream by its kind, such as `geojson`, `parquet`, `coverage` or
            `kinesis`. A name that an earlier output has already gets the number of its output, as
            in `geojson-2`.
        repaired: Number of features whose geometry was invalid and was changed to a valid one.
        classes: Number of features of each class, the most frequent first.
        failed: What failed of it.
        layer: The features or the raster for a preview; None if none was asked for.
        stored_bytes: Bytes of all files.
    """

    uris: dict[str, str]
    repaired: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    failed: Sequence[Failure] = ()
    layer: FeatureLayer | RasterLayer | None = None
    stored_bytes: int = 0


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
    usage: Usage | None = None,
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
        usage: As in `Origin`.
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
    origin = Origin(request, image, raster, model_version, usage)
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
    """Write results to every output.

    An output that fails does not stop the others, nor does a format that fails.

    Args:
        outputs: The outputs of the request.
        results: Detections and ledger, or the ledger alone.
        stem: File name without the ending of the format: the image's own file name.
        roots: Folders that the operator allows local outputs in.
        new_layer: Makes an empty layer of a preview, which the features are added to; or None.
        foreign: What happens to the results of another job under the same name.
        standing: Outputs that an earlier run has published to: only what they lack is written.

    Raises:
        PublishError: Every output failed; the message names the reasons.
        DamagedStoreError: Kept answers that the results are read from are damaged.
    """
    uris: dict[str, str] = {}
    failed: list[Failure] = []
    standing = standing or {}
    batches = CountedBatches(results, new_layer)
    with staging_folder() as folder, _given_up_if_interrupted() as claims:
        wanted = {
            index: standing[index].missing if index in standing else output.formats
            for index, output in enumerate(outputs)
            if not isinstance(output, KinesisOutput)
            and (index not in standing or standing[index].missing)
        }
        content: Content | None = None
        if wanted:
            content = Content.write(folder, results, batches, {*chain(*wanted.values())})
        for index, output in enumerate(outputs):
            earlier = standing.get(index)
            written: Mapping[str, str] = earlier.uris if earlier else {}
            try:
                if isinstance(output, KinesisOutput):
                    written = written or _put_records(output, results, batches)
                elif content and index in wanted:
                    formats, manifest = wanted[index], earlier.manifest if earlier else None
                    kinds = content.kinds(formats, formats_alone=manifest is not None)
                    provenance = results.metadata.provenance
                    claims.append(
                        claim(output, stem, provenance, kinds=kinds, roots=roots, foreign=foreign)
                    )
                    written, unwritten = content.put(claims[-1], formats, manifest)
                    failed += [Failure(index, why, name) for name, why in unwritten.items()]
                add_uris(uris, written, index + 1)
            except DamagedStoreError:
                raise
            except SwathError as error:
                failed.append(Failure(index, str(error)))
    lost = {each.output: each.reason for each in failed if each.format is None}
    if lost and len(lost) == len(outputs):
        reasons = " ".join(f"outputs[{index}]: {reason}" for index, reason in lost.items())
        raise PublishError(f"{reasons} Nothing is published.")
    classes = dict(batches.classes.most_common())
    stored = sum(each.stored_bytes for each in claims)
    return Published(uris, batches.repaired, classes, failed, batches.layer, stored)


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


def _put_records(
    output: KinesisOutput, results: ImageResults, batches: CountedBatches
) -> dict[str, str]:
    """Write the features to a stream; returns its URI. The ledger is for files only."""
    if results.read_detections is None:
        return {}
    write_kinesis(output.stream, batches, results.metadata, output.batch_size)
    return {"kinesis": f"kinesis://{output.stream}"}
