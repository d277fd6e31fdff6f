"""How often Prefect is asked, or told, about something that takes a while: the longer, the less.

Each request takes the server about 10 ms of CPU, on a machine that it may share with the work.
"""

from __future__ import annotations

import time


class Interval:
    """Seconds between two requests: a share of the time since the first one, within bounds.

    Args:
        shortest: Seconds at first.
        longest: Seconds at the most.
        share: Of the time that has passed.
    """

    def __init__(self, shortest: float, longest: float, share: float) -> None:
        self._shortest, self._longest, self._share = shortest, longest, share
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds until the next request."""
        passed = time.monotonic() - self._began
        return max(self._shortest, min(self._longest, self._share * passed))
