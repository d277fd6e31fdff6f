"""What work on an image used: calls of the model, processor time, bytes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Usage(BaseModel):
    """What work on an image used, or is estimated to use.

    Attributes:
        calls: Calls of the model, repeated and failed ones included: one for each view of a tile.
        failed_calls: Those of them that the model did not answer.
        cpu_seconds: Seconds of processor time of all processes that worked the image.
        bytes_read: Stored bytes of the blocks of the image that were read for tiles.
        bytes_stored: Bytes of the published files and of the answers that are kept.
        seconds: Seconds of the job, in which an endpoint was held for it.
    """

    model_config = ConfigDict(frozen=True)

    calls: int = 0
    failed_calls: int = 0
    cpu_seconds: float = 0.0
    bytes_read: int = 0
    bytes_stored: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """The sum of both."""
        return Usage(**{name: each + getattr(other, name) for name, each in self})

    def in_seconds(self, seconds: float) -> Usage:
        """It with the seconds of the job."""
        return self.model_copy(update={"seconds": seconds})

    def share(self, share: float) -> Usage:
        """A share (0 to 1) of it."""
        return Usage(
            calls=round(self.calls * share),
            failed_calls=round(self.failed_calls * share),
            cpu_seconds=self.cpu_seconds * share,
            bytes_read=round(self.bytes_read * share),
            bytes_stored=round(self.bytes_stored * share),
            seconds=self.seconds * share,
        )

    @property
    def text(self) -> str:
        """It in one line."""
        failed = f" ({self.failed_calls:,} failed)" if self.failed_calls else ""
        calls = "1 model call" if self.calls == 1 else f"{self.calls:,} model calls"
        return (
            f"{calls}{failed}, {self.cpu_seconds:,.1f} vCPU-seconds, "
            f"{bytes_text(self.bytes_read)} read, {bytes_text(self.bytes_stored)} stored"
        )


def bytes_text(count: float) -> str:
    """A number of bytes as text, with a decimal unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
