"""From the merged detections and the ledger to the files and streams that a request asks for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from tasks.errors import PublishError, SwathError
from tasks.imagery import Georeference, Image
from tasks.publish.batch import Batch, batches
from tasks.publish.features import Features, geolocate
from tasks.publish.footprints import write_coverage
from tasks.publish.geojson import geojson_file
from tasks.publish.geoparquet import geoparquet_file
from tasks.publish.kinesis import write_kinesis
from tasks.publish.outputs import Output, check_outputs, location
from tasks.publish.provenance import Provenance
from tasks.request import Request
from tasks.settings import settings
from tasks.storage import objects

__all__ = ["Bands", "Features", "Provenance", "Results", "check_outputs", "geolocate", "publish"]

Bands = Callable[[], Iterable[pa.Table]]

_ENDINGS = {"geojson": "geojson", "parquet": "parquet", "coverage": "coverage.parquet"}


@dataclass(frozen=True)
class Results:
    """What an image's run has for its outputs.

    Attributes:
        bands: Gives the merged detections each time it is called: tables of
            `detections.SCHEMA` in the order of tile and ordinal, the next loaded only when
            it is asked for. None where every tile failed.
        provenance: Where they come from.
        ledger: Table of `coverage.MEASURED`, the whole image's.
        georeference: Of the image, or None.
    """

    bands: Bands | None
    provenance: Provenance
    ledger: pa.Table
    georeference: Georeference | None

    def batches(self) -> Iterator[Batch]:
        """The features, from the first to the last."""
        tables = () if self.bands is None else self.bands()
        return batches(tables, self.georeference, self.provenance)


def publish(
    outputs: Sequence[Output], results: Results, stem: str, roots: Sequence[Path] = ()
) -> dict[str, str]:
    """Write results to every output; one that fails keeps none of the others from theirs.

    Args:
        outputs: Of the request.
        results: Detections and ledger, or the ledger alone.
        stem: Name of the files before `.geojson`, `.parquet` and `.coverage.parquet`: the image's
            file name.
        roots: Folders that the operator allows local outputs in.

    Returns:
        What was written: `geojson`, `parquet`, `coverage` or `kinesis` → URI. From the second
        output that has it on, a name carries the output's number: `geojson-2`.

    Raises:
        PublishError: At least one output failed; says which did and which are done.
    """
    done: dict[str, str] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="swath-") as folder:
        in_files = any(output.type != "Kinesis" for output in outputs)
        files = _write(Path(folder), results) if in_files else {}
        for number, output in enumerate(outputs, start=1):
            try:
                for name, uri in _send(output, results, files, stem, roots):
                    done[f"{name}-{number}" if name in done else name] = uri
            except SwathError as error:
                failed.append(f"outputs[{number - 1}]: {error}")
    if failed:
        published = ", ".join(done.values()) or "nothing"
        raise PublishError(f"{' '.join(failed)} Published all the same: {published}.")
    return done


def _write(folder: Path, results: Results) -> dict[str, Path]:
    """Every kind of file of the results, once for all outputs."""
    files = {name: folder / name for name in _ENDINGS}
    try:
        write_coverage(files["coverage"], results.ledger, results.georeference)
        if results.bands is None:
            return {"coverage": files["coverage"]}
        _write_features(files["geojson"], files["parquet"], results)
    except OSError as error:
        raise PublishError(
            f"Cannot write the results to {folder} before they are published: {error}. "
            "Make room there, or point TMPDIR at a larger disk."
        ) from error
    return files


def _write_features(geojson: Path, parquet: Path, results: Results) -> None:
    """Both files side by side: the features pass once."""
    provenance, georeferenced = results.provenance, results.georeference is not None
    with (
        geojson_file(geojson, provenance) as write_geojson,
        geoparquet_file(parquet, provenance, georeferenced=georeferenced) as write_geoparquet,
    ):
        for batch in results.batches():
            write_geojson(batch)
            write_geoparquet(batch)


def _send(
    output: Output, results: Results, files: Mapping[str, Path], stem: str, roots: Sequence[Path]
) -> Iterator[tuple[str, str]]:
    """Fill one output; yields the name and URI of each thing once it is there."""
    if output.type != "Kinesis":
        for name, path in files.items():
            uri = location(output, f"{stem}.{_ENDINGS[name]}", roots)
            objects.put(uri, path)
            yield name, uri
    elif results.bands is not None:
        write_kinesis(output.stream, results.batches(), results.provenance, output.batch_size)
        yield "kinesis", f"kinesis://{output.stream}"


def publish_image(
    request: Request,
    image: Image,
    bands: Bands | None,
    ledger: pa.Table,
    inferred: datetime,
) -> dict[str, str]:
    """Publish what an image gave as its request asks.

    Args:
        request: Names the outputs, the job and the properties to add.
        image: Places the detections on the Earth.
        bands: As in `Results`.
        ledger: Table of `coverage.MEASURED`.
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
    results = Results(bands, provenance, ledger, image.georeference)
    stem = request.file_names()[image.url]
    return publish(request.outputs, results, stem, settings().local_roots)
