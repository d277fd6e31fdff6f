"""An endpoint whose calls are counted, as each may cost money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.cost.meter import Meter
from tasks.imagery import TilePixels
from tasks.inference.endpoint import Endpoint


class MeteredEndpoint:
    """Asks another endpoint, and counts a call for each tile, or view of one, that it is asked for.

    Attributes:
        tiles_per_call: That of the other endpoint.
        capacity: That of the other endpoint.
        local: That of the other endpoint.
    """

    def __init__(self, endpoint: Endpoint, meter: Meter) -> None:
        """Ask nothing yet.

        Args:
            endpoint: The model.
            meter: Counts its calls.
        """
        self._endpoint, self._meter = endpoint, meter
        self.tiles_per_call, self.capacity = endpoint.tiles_per_call, endpoint.capacity
        self.local = endpoint.local

    def prepare(self, tile: TilePixels) -> Any:  # noqa: ANN401 - the other endpoint's own
        """What the other endpoint prepares for a tile."""
        return self._endpoint.prepare(tile)

    def ask(self, prepared: Sequence[Any]) -> Sequence[object]:
        """The answers of the other endpoint.

        Raises:
            EndpointError: The model did not answer.
            AnswerError: The answers cannot be read.
        """
        self._meter.calls_begin(len(prepared))
        try:
            return self._endpoint.ask(prepared)
        except BaseException:
            self._meter.calls_failed(len(prepared))
            raise

    def close(self) -> None:
        """Close the other endpoint."""
        self._endpoint.close()
