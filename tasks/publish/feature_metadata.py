"""The metadata that all features of an image share, and each feature's id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from typing import Any

import pyarrow as pa

from tasks.publish.provenance import Provenance
from tasks.results.detections import EMBEDDING

RESERVED = frozenset(
    {
        "class",
        "score",
        "acquired",
        "imageGeometry",
        "imageBBox",
        "featureClasses",
        "center_longitude",
        "center_latitude",
        "inferenceMetadata",
        "sourceMetadata",
    }
)
"""Names of properties that Swath itself fills."""


@dataclass(frozen=True)
class FeatureMetadata:
    """The metadata that all features of an image share.

    Attributes:
        provenance: The job, the image and the run; its time is the features' time of inference.
        source_metadata: Metadata read from the image, in OSML's form.
        feature_properties: The request's objects, merged into every feature's properties.
        oriented: Whether the detections may be oriented boxes that Swath decoded.
        embedding_size: Number of numbers in each feature's embedding; None if they have none.
        pixel_metres: Size of the image's pixels on the ground, in metres; None if it is unknown.
    """

    provenance: Provenance
    source_metadata: Sequence[Mapping[str, Any]] = ()
    feature_properties: Sequence[Mapping[str, Any]] = ()
    oriented: bool = False
    embedding_size: int | None = None
    pixel_metres: float | None = None

    @cached_property
    def acquired(self) -> datetime | None:
        """Time of acquisition of the image, with its UTC offset; None if it is unknown."""
        for source in self.source_metadata:
            if text := source.get("sourceDT"):
                time = datetime.fromisoformat(text)
                return time if time.tzinfo else time.replace(tzinfo=UTC)
        return None

    def ids_of(self, table: pa.Table) -> list[str]:
        """Ids of detections, 32 hexadecimal digits: the same in every run of the same request.

        24 digits are of the job, the image and the tile; 8 are the position in the model's answer.
        """
        image = sha256(f"{self.provenance.job}\0{self.provenance.image}".encode(errors="replace"))
        tiles, ordinals = (table[name].to_pylist() for name in ("tile", "ordinal"))
        starts = {}
        for tile in set(tiles):
            digest = image.copy()
            digest.update(f"\0{tile}".encode())
            starts[tile] = digest.hexdigest()[:24]
        return [f"{starts[tile]}{row:08x}" for tile, row in zip(tiles, ordinals, strict=True)]

    @cached_property
    def requested(self) -> dict[str, Any]:
        """The request's properties of every feature, without the names that Swath fills."""
        own_alone = RESERVED if self.embedding_size is None else RESERVED | {EMBEDDING}
        return {
            name: value
            for properties in self.feature_properties
            for name, value in properties.items()
            if name not in own_alone
        }
