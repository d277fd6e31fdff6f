"""Answers about a tile as a whole: its class, or an embedding, as a feature of the tile's size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import shapely
import shapely.geometry
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import AnswerError
from tasks.inference.answer.feature import PLACES, read_feature
from tasks.request import TileOutput, TileValues
from tasks.request.raster_output import Activation
from tasks.results.detections import EMBEDDING

_ROUNDING = 2e-3  # by which probabilities may lie outside 0 to 1, as in half precision
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class WholeTile:
    """The answer about a tile as a whole, not yet checked.

    Attributes:
        answer: What the model answered: a `Vector`, or JSON.
        output: What it holds.
    """

    answer: object
    output: TileOutput


def feature_of_vector(values: NDArray[Any], output: TileOutput) -> dict[str, Any]:
    """The feature that the numbers of an answer make, without its place.

    Args:
        values: (k,) as `output` says.
        output: What they are.

    Raises:
        AnswerError: They are not as many as they must be, NaN, or no probabilities.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise AnswerError(
            f"The answer has the shape {numbers.shape}, or numbers that are NaN or infinite: "
            f"answer with one finite number for each {_unit(output)}."
        )
    if output.is_embedding:
        return {"properties": {EMBEDDING: numbers.tolist()}}
    names = output.classes or tuple(map(str, range(len(numbers))))
    if len(names) != len(numbers):
        raise AnswerError(
            f"The answer has {len(numbers)} numbers, and tileOutput.classes has {len(names)} "
            "names: give one for each."
        )
    scores = _probabilities(numbers, output)
    order = np.argsort(-scores, kind="stable")[: None if output.all_scores else 1]
    classes = [{"iri": names[at], "score": float(scores[at])} for at in order]
    return {"properties": {"featureClasses": classes}}


def read_whole_tile(feature: object, output: TileOutput, window: Window) -> dict[str, Any]:
    """A feature about a whole tile as a row of `detections.SCHEMA`: its place is the tile.

    Args:
        feature: As of `read_feature`; its own box and outline, if it has any, are not read.
        output: What the model answers.
        window: The tile's window in the full image.

    Raises:
        ValueError: As of `read_feature`; or it has no embedding where it must.
    """
    given = feature.get("properties") if isinstance(feature, Mapping) else None
    if not isinstance(given, Mapping):
        raise ValueError("it has no properties")  # noqa: TRY004 - bad data, not a bad call
    own = {name: value for name, value in given.items() if name not in PLACES}
    if output.is_embedding:
        own[EMBEDDING] = _embedding(own.get(EMBEDDING), output)
        own["featureClasses"] = [{"iri": EMBEDDING, "score": 1.0}]
    footprint = shapely.box(0, 0, window.width, window.height)
    own["imageGeometry"] = shapely.geometry.mapping(footprint)
    return read_feature({"properties": own}, window)


def _embedding(values: object, output: TileOutput) -> list[float]:
    """The numbers of an embedding, in the fewest digits that tell each float32 from the others."""
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != (output.size,) or not (np.abs(numbers) <= _LARGEST).all():
        raise ValueError(
            f"its embedding is not a list of {output.size} finite numbers of 32 bits, as "
            f"tileOutput.size says, but has the shape {numbers.shape}"
        )
    text = orjson.dumps(numbers.astype(np.float32), option=orjson.OPT_SERIALIZE_NUMPY)
    found: list[float] = orjson.loads(text)
    return found


def _probabilities(numbers: NDArray[np.float64], output: TileOutput) -> NDArray[np.float64]:
    if output.values is TileValues.PROBABILITIES:
        low, high = float(numbers.min(initial=0)), float(numbers.max(initial=1))
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            raise AnswerError(
                f"The answer has numbers from {low:g} to {high:g}, which are no probabilities: "
                "scale them to 0 to 1, or give tileOutput.values logits."
            )
        return np.clip(numbers, 0, 1)
    if output.activation is Activation.SIGMOID:
        with np.errstate(over="ignore"):  # e to a large number is infinite, and 1 / infinity is 0
            sigmoid: NDArray[np.float64] = 1 / (1 + np.exp(-numbers))
        return sigmoid
    odds = np.exp(numbers - numbers.max(initial=-np.inf))
    softmax: NDArray[np.float64] = odds / odds.sum()
    return softmax


def _unit(output: TileOutput) -> str:
    return "dimension of the embedding" if output.is_embedding else "class"
