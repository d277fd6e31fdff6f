"""What every endpoint can do: one small interface, a module or folder of its own for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.imagery import TilePixels


@dataclass(frozen=True, slots=True)
class Boxes:
    """An answer in arrays, from models whose output is tensors.

    Attributes:
        boxes: (n, 4) float: x_min, y_min, x_max, y_max in pixels of the tile, corner-origin.
        scores: (n,) float.
        classes: (n,) int: places in `names`.
        names: Of the model's classes.
    """

    boxes: NDArray[np.floating[Any]]
    scores: NDArray[np.floating[Any]]
    classes: NDArray[np.integer[Any]]
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class JsonText:
    """An answer in JSON, not yet decoded.

    Attributes:
        source: Who gave it, for the error's sake.
        body: What there was, byte for byte.
    """

    source: str
    body: bytes


class Endpoint(Protocol):
    """A model that can be asked about tiles, from several threads at once.

    Attributes:
        tiles_per_call: Tiles that it likes to be asked about at once; most take one.
        capacity: Calls that it is known to take at a time, over all who call it; None where only
            trying tells.
        local: Whether it runs in this process, where calls never fail for want of a connection and
            more of them than processors gain nothing.
    """

    tiles_per_call: int
    capacity: int | None
    local: bool

    def prepare(self, tile: TilePixels) -> Any:  # noqa: ANN401 - the endpoint's own
        """What will be sent for a tile, worked out before it is the tile's turn to be asked."""

    def ask(self, prepared: Sequence[Any]) -> Sequence[object]:
        """The answer for each of a few tiles: `Boxes`, `JsonText`, or decoded JSON, unchecked.

        Args:
            prepared: What `prepare` made of each; 1 to `tiles_per_call` of them.

        Raises:
            EndpointError: The model did not answer.
            AnswerError: What it answered cannot be read at all.
        """

    def close(self) -> None:
        """Let go of connections; calls under way, in other threads, end at once."""
