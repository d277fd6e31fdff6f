"""Tells the threads that work an image's regions that no further region may start."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any

from prefect.client.schemas.objects import State

from flows.region import ENDPOINT_DOWN, IMAGE_REPLACED, LIMIT_REACHED
from tasks.errors import RegionLostError


class AbortSignal:
    """Shared by the threads that run the regions of one image.

    Attributes:
        reason: Why no further region may start: the endpoint was given up, the limit of the job is
            reached, the image was replaced, or the image's run has ended; empty while regions may
            start.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._ended = Event()
        self._at_end: list[Callable[[], object]] = []

    def observe(self, end: State[Any]) -> None:
        """Set the reason if the final state of a region's run gives one."""
        if end.name in {ENDPOINT_DOWN, IMAGE_REPLACED, LIMIT_REACHED}:
            self.reason = end.message or end.name or ""

    def end(self, reason: str) -> None:
        """End all waiting for regions: the image's run was cancelled, or ended by others."""
        self.reason = reason
        self._ended.set()
        for call in self._at_end:
            call()

    def at_end(self, call: Callable[[], object]) -> None:
        """Have a function called by `end`, in its thread."""
        self._at_end.append(call)

    def wait(self, seconds: float) -> None:
        """Wait some seconds.

        Raises:
            RegionLostError: The image's run has ended, before or meanwhile.
        """
        if self._ended.wait(seconds):
            raise RegionLostError(self.reason)
