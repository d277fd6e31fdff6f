"""The files of an image, written once and put in each output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tasks.errors import PublishError
from tasks.publish.claim import Claim
from tasks.publish.format_file import failure_of
from tasks.publish.formats import COVERAGE, FILE_ENDINGS, STAC, STYLE, STYLED, format_of
from tasks.publish.image_results import CountedBatches, ImageResults
from tasks.publish.local_files import write_files, write_style
from tasks.publish.manifest import Manifest, PublishedFile
from tasks.publish.stac import stac_item
from tasks.storage.conditional import Pieces

_COUNTS = ("features", "classes", "repaired")


@dataclass(frozen=True)
class Content:
    """The files of an image, to be put in each output.

    Attributes:
        results: What they are of.
        files: Path of each kind of file, features before the ledger, or a function that gives the
            bytes of one that is put together as it is written.
        counts: What the manifest says of the features.
        failed: Why each format failed that could not be written.
    """

    results: ImageResults
    files: Mapping[str, Path | Pieces]
    counts: Mapping[str, object]
    failed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def write(
        cls,
        folder: Path,
        results: ImageResults,
        batches: CountedBatches,
        formats: Collection[str],
    ) -> Self:
        """Write the files of some formats into a folder.

        Raises:
            PublishError: The ledger cannot be written.
            DamagedStoreError: Kept answers that the results are read from are damaged.
        """
        files, failed = write_files(folder, results, batches, formats)
        if STYLED in files and STYLE not in results.rasters:
            try:
                files[STYLE] = write_style(folder, results, batches)
            except OSError as error:
                failed[STYLED] = failure_of(files.pop(STYLED), error)
        classes = dict(batches.classes.most_common())
        counts = (sum(classes.values()), classes, batches.repaired)
        together = dict(zip(_COUNTS, counts, strict=True))
        return cls(results, {**results.rasters, **files}, together, failed)

    def kinds(self, formats: Collection[str], *, formats_alone: bool = False) -> set[str]:
        """The kinds of files that an output with some formats gets.

        Args:
            formats: The formats.
            formats_alone: Whether to leave out the ledger and the rasters.
        """
        wanted = {*formats} if formats_alone else {*formats, None}
        return {kind for kind in (*self.files, STAC) if self._format_of(kind) in wanted}

    def put(
        self, claimed: Claim, formats: Collection[str], earlier: Manifest | None = None
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Put the ledger, the rasters, and the features in some formats.

        A file that cannot be put fails alone, if what lay there under its name can be removed.

        Args:
            claimed: The claim of the output.
            formats: Those of the output; of an output that has some of them already, the others.
            earlier: The manifest of the files that it has already; None to put all.

        Returns:
            URI of each file of the output by its kind; the reason of each format that failed.

        Raises:
            PublishError: The output cannot be written, or in no format. What was put is removed, as
                it would not be whole.
        """
        kinds = self.kinds(formats, formats_alone=earlier is not None)
        failed = {name: self.failed[name] for name in formats if name in self.failed}
        files = {file.kind: file for file in earlier.files} if earlier else {}
        counts = {name: getattr(earlier, name) for name in _COUNTS} if earlier else self.counts
        if (origin := self.results.origin) and origin.usage:
            counts = {**counts, "usage": origin.usage, "cost": origin.cost}
        try:
            if earlier is None:
                for kind in FILE_ENDINGS.keys() - kinds:
                    claimed.remove(kind)
            self._put(claimed, kinds - {STAC}, files, failed)
            _check_some(files, failed)
            if STAC in kinds or STAC in files:
                self._put_item(claimed, files, failed, counts)
            claimed.complete(list(files.values()), {**counts, "failed": failed})
        except PublishError:
            with suppress(PublishError):
                claimed.withdraw()
            raise
        return {kind: claimed.names.files[kind] for kind in files}, failed

    def _format_of(self, kind: str) -> str | None:
        """The format that a kind of file is put with; None if it always is."""
        if kind == STYLE and STYLE not in self.results.rasters:
            return STYLED
        return STAC if kind == STAC else format_of(kind)

    def _put(
        self,
        claimed: Claim,
        kinds: Collection[str],
        files: dict[str, PublishedFile],
        failed: dict[str, str],
    ) -> None:
        """Put some kinds of files and add them to `files`, or the reason to `failed`."""
        for kind in self.files:
            name = self._format_of(kind)
            if kind not in kinds or name in failed:
                continue
            try:
                files[kind] = claimed.put(kind, self.files[kind])
            except PublishError as error:
                if name is None:
                    raise
                for each in (kind for kind in kinds if self._format_of(kind) == name):
                    _remove(claimed, each, error)
                    files.pop(each, None)
                failed[name] = str(error)

    def _put_item(
        self,
        claimed: Claim,
        files: dict[str, PublishedFile],
        failed: dict[str, str],
        counts: Mapping[str, object],
    ) -> None:
        """Put the STAC Item of other files, which has their checksums, likewise."""
        files.pop(STAC, None)
        try:
            body = stac_item(self.results, [*files.values()], claimed.names.stem, counts)
            files[STAC] = claimed.put(STAC, lambda: iter([body]))
        except PublishError as error:
            _remove(claimed, STAC, error)
            failed[STAC] = str(error)


def _check_some(files: Collection[str], failed: Mapping[str, str]) -> None:
    """Check that something besides the ledger was put, unless nothing was to be."""
    if failed and not {*files} - {COVERAGE, STAC}:
        raise PublishError(" ".join(failed.values()))


def _remove(claimed: Claim, kind: str, failure: PublishError) -> None:
    """Remove a file that could not be replaced; if that fails too, the output has failed."""
    try:
        claimed.remove(kind)
    except PublishError:
        raise failure from None
