"""The interface of all endpoints, and the forms of answer that are not decoded JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.imagery import TilePixels


@dataclass(frozen=True, slots=True)
class Boxes:
    """An answer in arrays, from a model whose output is tensors.

    Attributes:
        boxes: (n, 4) float: x_min, y_min, x_max, y_max in pixels of the tile, corner-origin.
        scores: (n,) float.
        classes: (n,) int: indices into `names`.
        names: Names of the model's classes.
        outlines: (n,) shapely polygons or multi-polygons in pixels of the tile, of which `boxes`
            are the bounds; None from a model that answers with boxes alone.
        properties: Further properties: by name a column of n numbers, texts, or vectors (n, k).
    """

    boxes: NDArray[np.floating[Any]]
    scores: NDArray[np.floating[Any]]
    classes: NDArray[np.integer[Any]]
    names: Sequence[str]
    outlines: NDArray[np.object_] | None = None
    properties: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JsonText:
    """An answer in JSON, not yet decoded.

    Attributes:
        source: The endpoint, as error messages name it.
        body: The JSON, in UTF-8.
    """

    source: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Pixels:
    """An answer in pixels of the tile.

    Attributes:
        bands: (bands, height, width), as the request's `rasterOutput` says.
    """

    bands: NDArray[Any]


@dataclass(frozen=True, slots=True)
class RasterFile:
    """An answer in pixels as an encoded raster, not yet decoded.

    Attributes:
        source: The endpoint, as error messages name it.
        media_type: Its media type, for error messages.
        body: A TIFF, PNG or NPY file.
    """

    source: str
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Vector:
    """An answer about a tile as a whole.

    Attributes:
        values: (k,) a number for each class, or an embedding, as the request's `tileOutput` says.
    """

    values: NDArray[Any]


class Endpoint(Protocol):
    """A model that several threads can call at once.

    Attributes:
        tiles_per_call: Maximum number of tiles in one call; 1 for most endpoints.
        capacity: Calls that it takes at a time, from all its callers together; None if unknown.
        local: Whether it runs in this process: its calls need no connection, and more calls at a
            time than processors are not faster.
    """

    tiles_per_call: int
    capacity: int | None
    local: bool

    def prepare(self, tile: TilePixels) -> Any:  # noqa: ANN401 - the endpoint's own
        """The value to send for a tile, made before the call waits for its permit."""

    def ask(self, prepared: Sequence[Any]) -> Sequence[object]:
        """The answer for each tile of one call, unchecked.

        It is one of `Boxes`, `JsonText`, `Pixels`, `RasterFile`, `Vector`, or decoded JSON.

        Args:
            prepared: The value that `prepare` returned for each tile; 1 to `tiles_per_call` of
                them.

        Raises:
            EndpointError: The model did not answer.
            AnswerError: The answers cannot be read.
        """

    def close(self) -> None:
        """Close connections; calls in flight in other threads end at once."""
