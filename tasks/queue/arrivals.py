"""An object that an S3 notification is about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath

from tasks.request.locations import IMAGE_SUFFIXES

_LONGEST = 180  # characters before the digest; a job id has 200


@dataclass(frozen=True, slots=True)
class Arrival:
    """An object, and the event about it that S3 reports.

    Attributes:
        event: S3's name of what happened to it.
        created: Whether the event is that the object, or a new version of it, was created.
        bucket: Its bucket.
        key: Its key, decoded.
        size: Bytes; None if the notification does not give it.
        version: Differs between two uploads to one key; the same in two deliveries of one event.
    """

    event: str
    created: bool
    bucket: str
    key: str
    size: int | None
    version: str

    @property
    def url(self) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def folder(self) -> str:
        """The key up to and including its last slash; empty for an object without a folder."""
        return self.key[: self.key.rfind("/") + 1]

    @property
    def ignored(self) -> str:
        """Why the object needs no run; empty for a new image."""
        if not self.created:
            return f"{self.event} creates no object"
        if self.key.endswith("/"):
            return "it is a folder marker"
        if PurePosixPath(self._name).suffix.lower() not in IMAGE_SUFFIXES:
            return f"its name ends in none of {', '.join(sorted(IMAGE_SUFFIXES))}"
        if {suffix.lower() for suffix in PurePosixPath(self._name).suffixes[:-1]} & IMAGE_SUFFIXES:
            return "its name is that of a raster which is published for an image"
        if self.size == 0:
            return "it is empty"
        return ""

    def job_id(self, prefix: str = "") -> str:
        """A job id that only this version of this object has: `harbour.tif-0f3c9a51b2de`.

        Args:
            prefix: First part of the id, followed by a hyphen; none if empty.
        """
        own = "\0".join((self.bucket, self.key, self.version)).encode()
        name = re.sub(r"[^\w.]+", "-", self._name).strip("-")
        words = "-".join(word for word in (prefix, name) if word)
        return f"{words[:_LONGEST]}-{sha256(own).hexdigest()[:12]}"

    @property
    def _name(self) -> str:
        return self.key[len(self.folder) :]
