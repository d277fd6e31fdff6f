"""The manifest beside an image's files: whose they are, and whether they are complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.cost.money import Cost
from tasks.cost.usage import Usage
from tasks.publish.provenance import Provenance

MANIFEST = "swath.json"
"""The ending of a manifest's name, without the leading dot."""


class ManifestState(StrEnum):
    """Whether the files of a publication are complete."""

    PUBLISHING = "publishing"
    COMPLETE = "complete"


class PublishedFile(BaseModel):
    """A file of a complete publication.

    Attributes:
        kind: As in `FILE_ENDINGS`, such as `geojson`, `pixels.geojson` or `coverage`.
        name: Its name in the manifest's own folder.
        bytes: Its size.
        sha256: Digest of its content, in hexadecimal digits.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    name: str
    bytes: int
    sha256: str


class Manifest(Provenance):
    """The content of `<image file name>.swath.json`, which is written last.

    In state `publishing` it is the claim of a publication: others may not write the files.

    Attributes:
        state: Whether the files are complete.
        publication: Identifier of the publication.
        files: What was published, if it is complete.
        features: Number of features.
        classes: Number of features of each class, the most frequent first.
        repaired: Number of features whose geometry was invalid and was changed to a valid one.
        failed: Why each format failed that the request asks for and that is not there.
        usage: What the run used until its publication; None if that is not known.
        cost: What that costs; None without prices.
        kinds: Until it is complete, the kinds of files that this publication or one before it may
            have written.
        foreign: Until it is complete, of the kinds that may be files of somebody else, the tag of
            the version that lay there before any publication wrote one.
    """

    state: ManifestState
    publication: str
    files: tuple[PublishedFile, ...] = ()
    features: int = 0
    classes: dict[str, int] = Field(default_factory=dict)
    repaired: int = 0
    failed: dict[str, str] = Field(default_factory=dict)
    usage: Usage | None = None
    cost: Cost | None = None
    kinds: tuple[str, ...] = ()
    foreign: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def begin(cls, provenance: Provenance, kinds: Iterable[str] = ()) -> Self:
        """The claim of a new publication, which may write some kinds of files."""
        return cls(
            **provenance.model_dump(),
            state=ManifestState.PUBLISHING,
            publication=uuid4().hex,
            kinds=tuple(sorted(kinds)),
        )

    def after(self, earlier: Self | None, tags: Mapping[str, str]) -> Self:
        """This claim with the kinds of files that an earlier publication left, or may have left.

        Args:
            earlier: The manifest of that publication; None if there was none.
            tags: Of the kinds that may be files of somebody else, the tag of the version there.
        """
        left = earlier.left if earlier else set()
        known = earlier.foreign if earlier else {}
        foreign = {
            kind: tag for kind, tag in tags.items() if kind not in left or known.get(kind) == tag
        }
        kinds = tuple(sorted({*self.kinds, *left}))
        return self.model_copy(update={"kinds": kinds, "foreign": foreign})

    @property
    def left(self) -> set[str]:
        """The kinds of files that the publication has written, or may have written."""
        return {*self.kinds, *(file.kind for file in self.files)}

    @classmethod
    def parse(cls, text: bytes) -> Self | None:
        """A manifest from its text; None if the text is not one."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None

    @property
    def text(self) -> bytes:
        """The manifest as indented JSON."""
        return self.model_dump_json(indent=2).encode() + b"\n"
