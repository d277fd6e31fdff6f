"""The tasks of MLM that Swath runs a model for, and what their outputs hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tasks.request.raster_output import RasterValues
from tasks.request.tile_output import TileValues

OBJECTS = frozenset({"detection", "object-detection"})
INSTANCES = frozenset({"instance-segmentation"})
SEGMENTATION = frozenset({"segmentation", "semantic-segmentation"})
REGRESSION = frozenset({"regression"})
RASTER_TASKS = SEGMENTATION | REGRESSION
SCENES = frozenset({"classification", "scene-classification"})
EMBEDDINGS = frozenset({"similarity-search"})
RUN = OBJECTS | INSTANCES | RASTER_TASKS | SCENES | EMBEDDINGS


def values_of(tasks: Collection[str]) -> RasterValues | None:
    """What the pixels of a map are, if its tasks tell and nothing else does.

    Args:
        tasks: Names of MLM.
    """
    if SEGMENTATION.isdisjoint(tasks) == REGRESSION.isdisjoint(tasks):
        return None
    return RasterValues.VALUES if SEGMENTATION.isdisjoint(tasks) else RasterValues.LOGITS


def tile_values_of(tasks: Collection[str]) -> TileValues | None:
    """What a model answers about a whole tile, if its tasks tell and nothing else does."""
    if SCENES.isdisjoint(tasks) == EMBEDDINGS.isdisjoint(tasks):
        return None
    return TileValues.EMBEDDING if SCENES.isdisjoint(tasks) else TileValues.LOGITS


def tile_tasks_for(values: TileValues) -> frozenset[str]:
    """The tasks of models that answer such values about a whole tile."""
    return EMBEDDINGS if values is TileValues.EMBEDDING else SCENES


def tasks_for(values: RasterValues) -> frozenset[str]:
    """The tasks whose outputs hold such values."""
    return REGRESSION if values is RasterValues.VALUES else SEGMENTATION


def listed(tasks: Iterable[str]) -> str:
    """Tasks as an error names them."""
    return ", ".join(sorted(tasks))
