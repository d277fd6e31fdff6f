"""From the merged table of detections to the files and streams that a request asks for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import store
from tasks.errors import PublishError, SwathError
from tasks.imagery import Image
from tasks.publish.features import Features, geolocate
from tasks.publish.geojson import write_geojson
from tasks.publish.geoparquet import write_geoparquet
from tasks.publish.kinesis import write_kinesis
from tasks.publish.outputs import Output, check_outputs, location
from tasks.publish.provenance import Provenance
from tasks.request import Request
from tasks.settings import settings

__all__ = ["Features", "Provenance", "check_outputs", "geolocate", "publish"]

_WRITERS = {"geojson": write_geojson, "parquet": write_geoparquet}


def publish(
    outputs: Sequence[Output],
    features: Features,
    provenance: Provenance,
    stem: str,
    roots: Sequence[Path] = (),
) -> dict[str, str]:
    """Write features to every output; one that fails keeps none of the others from theirs.

    Args:
        outputs: Of the request.
        features: Detections and their places.
        provenance: Where they come from.
        stem: Name of the files before `.geojson` and `.parquet`: the image's file name.
        roots: Folders that the operator allows local outputs in.

    Returns:
        What was written: `geojson`, `parquet` or `kinesis` → URI. From the second output that
        has it on, a name carries the output's number: `geojson-2`.

    Raises:
        PublishError: At least one output failed; says which did and which are done.
    """
    done: dict[str, str] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="swath-") as folder:
        written = _Written(features, provenance)
        if any(output.type != "Kinesis" for output in outputs):
            written = _write(Path(folder), features, provenance)
        for number, output in enumerate(outputs, start=1):
            try:
                for name, uri in _send(output, written, stem, roots):
                    done[f"{name}-{number}" if name in done else name] = uri
            except SwathError as error:
                failed.append(f"outputs[{number - 1}]: {error}")
    if failed:
        published = ", ".join(done.values()) or "nothing"
        raise PublishError(f"{' '.join(failed)} Published all the same: {published}.")
    return done


@dataclass(frozen=True)
class _Written:
    """Features, and the files that they are in, by kind."""

    features: Features
    provenance: Provenance
    files: Mapping[str, Path] = field(default_factory=dict)


def _write(folder: Path, features: Features, provenance: Provenance) -> _Written:
    """Every kind of file of features, once for all outputs."""
    files = {name: folder / name for name in _WRITERS}
    try:
        for name, path in files.items():
            _WRITERS[name](path, features, provenance)
    except OSError as error:
        raise PublishError(
            f"Cannot write the results to {folder} before they are published: {error}. "
            "Make room there, or point TMPDIR at a larger disk."
        ) from error
    return _Written(features, provenance, files)


def _send(
    output: Output, written: _Written, stem: str, roots: Sequence[Path]
) -> Iterator[tuple[str, str]]:
    """Fill one output; yields the name and URI of each thing once it is there."""
    if output.type == "Kinesis":
        write_kinesis(output.stream, written.features, written.provenance, output.batch_size)
        yield "kinesis", f"kinesis://{output.stream}"
        return
    for name, path in written.files.items():
        uri = location(output, f"{stem}.{name}", roots)
        store.put(uri, path)
        yield name, uri


def publish_image(
    request: Request, image: Image, detections: pa.Table, inferred: datetime
) -> dict[str, str]:
    """Publish an image's merged detections as its request asks.

    Args:
        request: Names the outputs, the job and the properties to add.
        image: Places the detections on the Earth.
        detections: Table of `tasks.detections.SCHEMA`.
        inferred: When; the same for all features, so that a result depends on nothing else.

    Returns:
        As `publish`.
    """
    provenance = Provenance(
        job_id=request.job_id,
        image_url=image.url,
        inference_time=inferred.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        source_metadata=image.source_metadata,
        feature_properties=request.feature_properties,
    )
    features = geolocate(detections, image.georeference)
    stem = request.file_names()[image.url]
    return publish(request.outputs, features, provenance, stem, settings().local_roots)


publish_task = task(name="publish", cache_policy=NO_CACHE)(publish_image)
