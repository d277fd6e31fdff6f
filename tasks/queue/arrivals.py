"""One object that S3 tells of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath

IMAGES = frozenset(
    {
        *(".tif", ".tiff", ".gtiff"),
        *(".ntf", ".nitf", ".nsf", ".nsif"),  # SICD and SIDD too
        *(".jp2", ".j2k", ".j2c", ".jpc", ".jpx"),
        *(".jpg", ".jpeg"),
        ".png",
        ".img",
    }
)
"""Endings, in lower case, of the formats that `tasks.imagery` reads; none that Swath writes."""

_LONGEST = 180  # characters before the digest; a job id has 200


@dataclass(frozen=True, slots=True)
class Arrival:
    """One object that S3 tells of.

    Attributes:
        event: What happened to it, in S3's words.
        created: Whether that made it, or a new version of it.
        bucket: Where it is.
        key: As it is; in no encoding.
        size: Bytes; None where S3 does not say.
        version: Differs between two uploads under one key, and never between two deliveries of one
            event.
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
        """The key up to its last slash, which is part of it; empty at the bucket's top."""
        return self.key[: self.key.rfind("/") + 1]

    @property
    def passed_over(self) -> str:
        """Why there is nothing to do about it; empty for a new image."""
        if not self.created:
            return f"{self.event} brings no new object"
        if self.key.endswith("/"):
            return "it marks a folder"
        if PurePosixPath(self._name).suffix.lower() not in IMAGES:
            return f"its name ends in none of {', '.join(sorted(IMAGES))}"
        if self.size == 0:
            return "it is empty"
        return ""

    def job_id(self, prefix: str = "") -> str:
        """A job id of this version of this object alone: `harbour.tif-0f3c9a51b2de`.

        Args:
            prefix: What it begins with, and a hyphen; empty for nothing.
        """
        own = "\0".join((self.bucket, self.key, self.version)).encode()
        name = re.sub(r"[^\w.]+", "-", self._name).strip("-")
        words = "-".join(word for word in (prefix, name) if word)
        return f"{words[:_LONGEST]}-{sha256(own).hexdigest()[:12]}"

    @property
    def _name(self) -> str:
        return self.key[len(self.folder) :]
