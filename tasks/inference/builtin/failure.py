"""A model that fails on demand: the colour of a tile chooses the failure.

    colour    first three bands    in process            over HTTP
    red       high low  low        TransientError        500, reason as JSON
    yellow    high high low        ThrottledError        503 with Retry-After
    magenta   high low  high       BadAnswerError        200, JSON cut in half
    cyan      low  high high       BadAnswerError        200, `[1,2,3]`
    blue      low  low  high       a late answer         a late answer
    other     anything else        centerpoint's answer  centerpoint's answer

A band is high if its mean lies in the top eighth of the dtype's range (0 to 1 for floats), and low
if it lies in the bottom eighth. A tile of fewer than three bands never fails.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import AnswerError, ThrottledError, TransientError
from tasks.inference.builtin.synthetic import Centerpoint


class BadAnswerError(AnswerError):
    """An answer that is not a FeatureCollection.

    Attributes:
        body: The bytes of the answer, as a server sends them.
    """

    def __init__(self, message: str, body: bytes) -> None:
        super().__init__(message)
        self.body = body


class Failure(BaseModel):
    """Fails in the way that the tile's colour chooses.

    Attributes:
        seconds: Delay of the answer for a blue tile.
        patience: Seconds of Retry-After in the answer for a yellow tile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float = Field(2.0, ge=0, le=3600)
    patience: int = Field(1, ge=0, le=3600)

    def __call__(self, pixels: NDArray[Any]) -> dict[str, Any]:
        """The answer of `centerpoint`, unless the tile has the colour of a failure.

        Args:
            pixels: (bands, height, width), any real dtype.

        Raises:
            TransientError: The tile is red.
            ThrottledError: The tile is yellow.
            BadAnswerError: The tile is magenta or cyan.
        """
        match _colour(pixels):
            case "100":
                raise TransientError("The model 'failure' fails on this tile: it is red.")
            case "110":
                raise ThrottledError(
                    f"The model 'failure' asks to retry after {self.patience} s: tile is yellow.",
                    self.patience,
                )
            case "101":
                whole = json.dumps(Centerpoint()(pixels)).encode()
                raise BadAnswerError(
                    "The model 'failure' answers with JSON cut in half: the tile is magenta.",
                    whole[: len(whole) // 2],
                )
            case "011":
                raise BadAnswerError(
                    "The model 'failure' answers with [1,2,3]: the tile is cyan.", b"[1,2,3]"
                )
            case "001":
                time.sleep(self.seconds)
        return Centerpoint()(pixels)


def _colour(pixels: NDArray[Any]) -> str:
    """One character for each of the first three bands: 1 high, 0 low, - neither; "" for fewer."""
    if pixels.shape[0] < 3:
        return ""
    top = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "iu" else 1.0
    levels = pixels[:3].mean(axis=(1, 2), dtype=np.float64) / top
    return "".join("1" if level >= 7 / 8 else "0" if level <= 1 / 8 else "-" for level in levels)
