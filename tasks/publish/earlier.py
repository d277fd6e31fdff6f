"""What an earlier run of the same request has published already."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.imagery import Image
from tasks.publish.claim import FileNames, stems
from tasks.publish.formats import COVERAGE
from tasks.publish.manifest import Manifest, ManifestState
from tasks.publish.provenance import Provenance
from tasks.publish.publication import Published, StandingOutput, add_uris
from tasks.request import FileOutput, KinesisOutput, Request, S3Output
from tasks.results.coverage import MEASURED, completed
from tasks.settings import settings
from tasks.storage import conditional, objects

_SUCCESS = "SUCCESS"


@dataclass(frozen=True)
class EarlierPublication:
    """A publication of an earlier run.

    Attributes:
        manifest: The manifest in the first output.
        published: What was published.
    """

    manifest: Manifest
    published: Published

    def ledger(self) -> pa.Table:
        """The published ledger, a table of `coverage.MEASURED`.

        Raises:
            PublishError: It is gone.
        """
        file = pq.ParquetFile(pa.BufferReader(objects.get(self.published.uris[COVERAGE])))
        names = [name for name in MEASURED.names if name in file.schema_arrow.names]
        return completed(file.read(columns=names)).cast(MEASURED)


def already_published(request: Request, image: Image) -> EarlierPublication | None:
    """What an earlier run has published, if nothing is left to be done for a request.

    That is so if every output of files has a complete manifest of the same job, request and version
    of the image with status SUCCESS and without a format that failed, and its files are there. A
    stream does not tell what it was given, so outputs of that kind are not looked at; None if there
    are no others.

    Args:
        request: The message.
        image: One of its images.

    Raises:
        PublishError: An output cannot be read.
        RequestError: An output is outside the folders that the operator allows.
    """
    found: list[Manifest] = []
    uris: dict[str, str] = {}
    for number, output in enumerate(request.outputs, start=1):
        if isinstance(output, KinesisOutput):
            continue
        whole = _whole(output, request, image)
        if whole is None or whole[0].status != _SUCCESS or whole[0].failed:
            return None
        found.append(whole[0])
        add_uris(uris, whole[1], number)
    if not found:
        return None
    first = found[0]
    return EarlierPublication(first, Published(uris, first.repaired, first.classes))


def standing_outputs(
    request: Request, image: Image, provenance: Provenance, failed: Collection[int]
) -> dict[int, StandingOutput]:
    """The outputs that an earlier run has published the same results to.

    Those of files have to be whole but for formats that failed, and of the same version of Swath.

    Args:
        request: The message.
        image: One of its images.
        provenance: Of the results that are about to be published.
        failed: Indices of the outputs that failed in the earlier run.

    Returns:
        These outputs, by their index.

    Raises:
        PublishError: An output cannot be read.
        RequestError: An output is outside the folders that the operator allows.
    """
    standing: dict[int, StandingOutput] = {}
    for index, output in enumerate(request.outputs):
        if index in failed:
            continue
        if isinstance(output, KinesisOutput):
            standing[index] = StandingOutput({"kinesis": f"kinesis://{output.stream}"})
        elif (whole := _whole(output, request, image)) and _same(whole[0], provenance):
            standing[index] = StandingOutput(whole[1], whole[0])
    return standing


def _same(manifest: Manifest, provenance: Provenance) -> bool:
    """Whether a manifest is of the same results as others, except for their time."""
    told = manifest.model_copy(update={"time": provenance.time})
    return told.model_dump(include=set(Provenance.model_fields)) == provenance.model_dump()


def _whole(
    output: S3Output | FileOutput, request: Request, image: Image
) -> tuple[Manifest, dict[str, str]] | None:
    """The manifest of a job in an output, and the URI of each of its files; None unless whole."""
    for stem in stems(request.file_names()[image.url], request.job_id):
        names = FileNames.of(output, stem, settings().local_roots)
        body = conditional.read(names.manifest)
        manifest = Manifest.parse(body[0]) if body else None
        if manifest is None or manifest.job == request.job_id:
            break
    if manifest is None or not _is_whole(manifest, names, request, image):
        return None
    return manifest, {file.kind: names.files[file.kind] for file in manifest.files}


def _is_whole(manifest: Manifest, names: FileNames, request: Request, image: Image) -> bool:
    """Whether a manifest is that of a request, and its files are there."""
    wanted = (request.job_id, request.identity(image.url), image.etag)
    told = (manifest.job, manifest.request, manifest.etag)
    return (
        manifest.state is ManifestState.COMPLETE
        and told == wanted
        and all(_is_there(names.files.get(file.kind), file.bytes) for file in manifest.files)
    )


def _is_there(uri: str | None, size: int) -> bool:
    """Whether there is an object of a size; None for a kind of file that this version ignores."""
    version = conditional.version_of(uri) if uri else None
    return version is not None and version.size == size
