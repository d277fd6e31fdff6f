"""An endpoint whose model answers about each tile as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.imagery import TilePixels
from tasks.inference.answer.whole_tile import WholeTile
from tasks.inference.endpoint import Endpoint
from tasks.request import TileOutput


class TileEndpoint:
    """Asks another endpoint; each of its answers is about a whole tile.

    Attributes:
        tiles_per_call: That of the other endpoint.
        capacity: That of the other endpoint.
        local: That of the other endpoint.
    """

    def __init__(self, endpoint: Endpoint, output: TileOutput) -> None:
        """Ask nothing yet.

        Args:
            endpoint: The model.
            output: What it answers.
        """
        self._endpoint, self._output = endpoint, output
        self.tiles_per_call, self.capacity = endpoint.tiles_per_call, endpoint.capacity
        self.local = endpoint.local

    def prepare(self, tile: TilePixels) -> Any:  # noqa: ANN401 - the other endpoint's own
        """What the other endpoint prepares for a tile."""
        return self._endpoint.prepare(tile)

    def ask(self, prepared: Sequence[Any]) -> list[WholeTile]:
        """The model's answer about each tile.

        Raises:
            EndpointError: The model did not answer.
            AnswerError: The answers cannot be read.
        """
        return [WholeTile(answer, self._output) for answer in self._endpoint.ask(prepared)]

    def close(self) -> None:
        """Close the other endpoint."""
        self._endpoint.close()
