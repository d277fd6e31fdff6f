"""The right to write the files of an image in one folder or prefix.

The manifest there names the publication that has it. A publication claims the manifest, writes the
files, and completes the manifest. Each file is written on the condition that it has not changed
since the claim was last seen to hold: a process that was thought dead and goes on cannot put its
files between those of its successor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Self

from tasks.errors import PublishError
from tasks.publish.formats import FILE_ENDINGS, SHARED_KINDS
from tasks.publish.manifest import MANIFEST, Manifest, ManifestState, PublishedFile
from tasks.publish.outputs import file_uri
from tasks.publish.provenance import Provenance
from tasks.request import FileOutput, S3Output
from tasks.settings import ForeignResults, settings
from tasks.storage import conditional
from tasks.storage.conditional import Pieces, Version
from tasks.storage.objects import is_s3
from tasks.storage.parts import remove_abandoned

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0  # seconds between two tries
_MAX_STEM = 230  # bytes; file systems take 255 for a name with its ending


@dataclass(frozen=True)
class FileNames:
    """The URIs of an image's files in one output.

    Attributes:
        stem: Name of the files without their endings.
        manifest: URI of the manifest.
        files: URI of each kind of file.
    """

    stem: str
    manifest: str
    files: Mapping[str, str]

    @classmethod
    def of(cls, output: S3Output | FileOutput, stem: str, roots: Sequence[Path]) -> Self:
        """Names with a stem.

        Raises:
            RequestError: The output is outside the folders that the operator allows.
        """
        manifest = file_uri(output, f"{stem}.{MANIFEST}", roots)
        endings = FILE_ENDINGS.items()
        files = {kind: file_uri(output, f"{stem}.{ending}", roots) for kind, ending in endings}
        return cls(stem, manifest, files)


def stems(stem: str, job: str) -> tuple[str, str]:
    """The names that a job's files may have: the image's own, and one if that is another job's."""
    versioned = f"{stem}.{job}"
    if len(versioned.encode()) > _MAX_STEM:
        versioned = f"{stem}.{sha256(job.encode()).hexdigest()[:16]}"
    return stem, versioned


class Claim:
    """The claim of one publication.

    Attributes:
        names: The files that it may write.
        stored_bytes: Bytes of the files that it has written.
    """

    def __init__(
        self, names: FileNames, manifest: Manifest, version: Version | None, before: bytes | None
    ) -> None:
        """Take it with `claim`."""
        self.names = names
        self.stored_bytes = 0
        self._manifest, self._version = manifest, version
        self._manifest_before = before
        self._files_before: dict[str, Version | None] = {}
        self._written: list[str] = []

    def put(self, kind: str, body: Path | Pieces) -> PublishedFile:
        """Write a file: one that exists, or one that is put together meanwhile.

        Raises:
            PublishError: It cannot be written, or the claim is lost.
        """
        uri = self.names.files[kind]
        counted = body if isinstance(body, Path) and not is_s3(uri) else _Counted(body)

        def put() -> bool:
            version = conditional.version_of(uri)
            self._files_before.setdefault(uri, version)
            self._check()
            return conditional.put_if(uri, counted, version)

        _until_unchanged(uri, put)
        self._written.append(uri)
        name = f"{self.names.stem}.{FILE_ENDINGS[kind]}"
        size, digest = _measured(counted) if isinstance(counted, Path) else counted.measured
        self.stored_bytes += size
        return PublishedFile(kind=kind, name=name, bytes=size, sha256=digest)

    def remove(self, kind: str) -> None:
        """Remove a file of an earlier publication; it need not exist.

        One of `SHARED_KINDS` is removed only if a manifest says that Swath may have written it, and
        it is not what lay there before: it may be an image or a table of somebody else.

        Raises:
            PublishError: It cannot be removed, or the claim is lost.
        """
        if kind in self._manifest.kinds or kind not in SHARED_KINDS:
            self._remove(self.names.files[kind], self._manifest.foreign.get(kind))

    def complete(self, files: Sequence[PublishedFile], counts: Mapping[str, object]) -> None:
        """Write the complete manifest.

        Args:
            files: All files that were written.
            counts: Further fields of the manifest.

        Raises:
            PublishError: It cannot be written, or the claim is lost.
        """
        update = {"state": ManifestState.COMPLETE, "files": tuple(files), **counts}
        complete = self._manifest.model_copy(update={**update, "kinds": (), "foreign": {}})

        def put() -> bool:
            self._check()
            return conditional.put_if(self.names.manifest, complete.text, self._version)

        _until_unchanged(self.names.manifest, put)

    def withdraw(self) -> None:
        """Remove the files that were written, as others are missing; the claim remains."""
        while self._written:
            self._remove(self._written.pop())

    def give_up(self) -> None:
        """Put back the manifest that was there before, if no file has changed since.

        Otherwise all files of the image are removed, and the claim, as they would not be whole.
        """
        changed = any(
            conditional.version_of(uri) != before for uri, before in self._files_before.items()
        )
        if changed:
            for kind in self.names.files:
                self.remove(kind)
        self._check()
        if self._manifest_before is not None and not changed:
            conditional.put_if(self.names.manifest, self._manifest_before, self._version)
        elif self._version:
            conditional.remove_if(self.names.manifest, self._version)

    def _remove(self, uri: str, foreign: str | None = None) -> None:
        """Remove a file unless it is a version of somebody else, given by its tag."""

        def remove() -> bool:
            version = conditional.version_of(uri)
            if version is None or version.tag == foreign:
                return True
            self._files_before.setdefault(uri, version)
            self._check()
            return conditional.remove_if(uri, version)

        _until_unchanged(uri, remove)

    def _check(self) -> None:
        """Check that the manifest is still that of this publication."""
        found = conditional.read(self.names.manifest)
        owner = found and Manifest.parse(found[0])
        if found is None or owner is None or owner.publication != self._manifest.publication:
            by = f"job {owner.job}" if owner else "nobody"
            raise PublishError(
                f"{self.names.manifest} was taken over meanwhile (it belongs to {by} now): "
                "the files there are not of this run. Publish again if they should be."
            )
        self._version = found[1]


class _Counted:
    """The pieces of a file, of which the bytes are counted and digested as they are read."""

    def __init__(self, body: Path | Pieces) -> None:
        self._body = body
        self._bytes, self._digest = 0, sha256()

    def __call__(self) -> Iterator[bytes]:
        self._bytes, self._digest = 0, sha256()
        for piece in conditional.pieces(self._body):
            self._bytes += len(piece)
            self._digest.update(piece)
            yield piece

    @property
    def measured(self) -> tuple[int, str]:
        """Number of bytes, and their digest in hexadecimal digits."""
        return self._bytes, self._digest.hexdigest()


def _measured(path: Path) -> tuple[int, str]:
    """The same of a local file."""
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def claim(
    output: S3Output | FileOutput,
    stem: str,
    provenance: Provenance,
    *,
    kinds: Iterable[str] = (),
    roots: Sequence[Path],
    foreign: ForeignResults,
) -> Claim:
    """Claim the files of an image in an output.

    Files without a manifest belong to nobody and are replaced. Those of another job are replaced
    only if `foreign` says so; otherwise the files get names with the job's identifier. What a
    killed process left half written in a local folder is removed.

    Args:
        output: Folder or prefix.
        stem: The image's own file name.
        provenance: Of the files that will be written.
        kinds: Of the files that will be written.
        roots: Folders that the operator allows local outputs in.
        foreign: What happens to the results of another job under the same name.

    Raises:
        RequestError: The output is outside the folders that the operator allows.
        PublishError: The manifest cannot be written, or both names belong to other jobs.
    """
    manifest = Manifest.begin(provenance, kinds)
    for each in stems(stem, provenance.job):
        names = FileNames.of(output, each, roots)
        if isinstance(output, FileOutput):
            remove_abandoned(Path(names.manifest).parent)
        if taken := _take(names, manifest, foreign):
            return taken
    raise PublishError(
        f"{names.manifest} belongs to another job, and so does {stem}.{MANIFEST} beside it: "
        "name another folder, or remove them."
    )


def _take(names: FileNames, manifest: Manifest, foreign: ForeignResults) -> Claim | None:
    """Write the manifest as a claim; None if it belongs to another job."""
    taken: Claim | None = None
    before: bytes | None = None

    def take() -> bool:
        nonlocal taken, before
        found = conditional.read(names.manifest)
        version = found[1] if found else None
        owner = Manifest.parse(found[0]) if found else None
        if owner and owner.publication == manifest.publication:  # its answer was lost
            taken = Claim(names, owner, version, before)
        elif owner and owner.job != manifest.job and foreign is ForeignResults.VERSION:
            return True
        else:
            tags = _tags(names, {*manifest.kinds, *(owner.left if owner else ())} & SHARED_KINDS)
            own, before = manifest.after(owner, tags), found and found[0]
            if conditional.put_if(names.manifest, own.text, version):
                taken = Claim(names, own, None, before)
        return taken is not None

    _until_unchanged(names.manifest, take)
    return taken


def _tags(names: FileNames, kinds: Collection[str]) -> dict[str, str]:
    """The tag of the version of each file of some kinds that is there."""
    versions = {kind: conditional.version_of(names.files[kind]) for kind in sorted(kinds)}
    return {kind: version.tag for kind, version in versions.items() if version}


def _until_unchanged(uri: str, change: Callable[[], bool]) -> None:
    """Repeat a conditional change of an object until nobody else changed it meanwhile.

    Raises:
        PublishError: For `SWATH_STORAGE_PATIENCE`, the store said each time that somebody had.
    """
    end, pause = time.monotonic() + settings().storage_patience, _FIRST_PAUSE
    while not change():
        if time.monotonic() > end:
            raise PublishError(
                f"Cannot change {uri}: the store says each time that it has changed meanwhile. Do "
                "not publish to it from elsewhere; a store other than S3 must support If-Match."
            )
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
