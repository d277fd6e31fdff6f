"""The failed reads of an image, and when reading is given up."""

from __future__ import annotations

import time

_LAST_READS = 4  # failed reads after the patience is exhausted: neighbours share damaged blocks


class FailedReads:
    """The failed reads of an image since the last part of it that was read.

    Attributes:
        given_up: The reason why nothing more is read; empty while reading goes on.
    """

    def __init__(self, patience: float) -> None:
        """Start without a failure.

        Args:
            patience: Seconds of failed reads, without any part that is read, after which they are
                not repeated.
        """
        self.given_up = ""
        self._patience = patience
        self._since: float | None = None
        self._last_reads = 0

    @property
    def exhausted(self) -> bool:
        """Whether the patience is exhausted: each further part is read once."""
        return bool(self._last_reads or self.given_up)

    def add(self, reason: str, began: float) -> str:
        """Add a read that failed.

        Args:
            reason: Why it failed.
            began: When it began, by `time.monotonic`.

        Returns:
            The reason, with the seconds of failed reads if the patience is exhausted.
        """
        if self._since is None:
            self._since = began
        seconds = time.monotonic() - self._since
        if seconds <= self._patience:
            return reason
        reason = f"{seconds:.0f} s of failed reads, the last one: {reason}"
        self._last_reads += 1
        if self._last_reads > _LAST_READS:
            self.given_up = reason
        return reason

    def clear(self) -> None:
        """Forget all failures: a part was read, or is known to be damaged."""
        self._since, self._last_reads = None, 0
