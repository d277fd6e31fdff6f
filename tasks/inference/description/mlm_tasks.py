"""The tasks of MLM that Swath runs a model for, and what their outputs hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tasks.request.raster_output import RasterValues

OBJECTS = frozenset({"detection", "object-detection"})
SEGMENTATION = frozenset({"segmentation", "semantic-segmentation"})
REGRESSION = frozenset({"regression"})
RUN = OBJECTS | SEGMENTATION | REGRESSION


def values_of(tasks: Collection[str]) -> RasterValues | None:
    """What the pixels of a map are, if its tasks tell and nothing else does.

    Args:
        tasks: Names of MLM.
    """
    if SEGMENTATION.isdisjoint(tasks) == REGRESSION.isdisjoint(tasks):
        return None
    return RasterValues.VALUES if SEGMENTATION.isdisjoint(tasks) else RasterValues.LOGITS


def tasks_for(values: RasterValues) -> frozenset[str]:
    """The tasks whose outputs hold such values."""
    return REGRESSION if values is RasterValues.VALUES else SEGMENTATION


def listed(tasks: Iterable[str]) -> str:
    """Tasks as an error names them."""
    return ", ".join(sorted(tasks))
