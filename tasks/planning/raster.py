"""The estimate of a raster: its bytes, and what is stored while it is made."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tasks.planning.plan import Plan
from tasks.raster import layers_of
from tasks.raster.layers import Layer, stored_layers
from tasks.raster.levels import level_sizes
from tasks.raster.tile_maps import band_count, map_dtype
from tasks.request import RasterOutput

# Share of the bytes of pixels that is left when they are compressed, as measured on a cloud mask
_CLASSES_SHARE, _PROBABILITIES_SHARE, _FLOATS_SHARE = 0.06, 0.35, 0.75
_MAPS_SHARE = 0.65  # of kept probabilities


class RasterEstimate(BaseModel):
    """What a raster takes.

    Attributes:
        files: Names of its files: `raster`, and `scores` on request.
        views: Views of each tile that the model is asked for.
        bytes: Bytes of the pixels of its files and their overviews, uncompressed.
        file_bytes: Expected bytes of its files.
        scratch_bytes: Expected bytes that are stored while it is made: the model's answers as they
            are kept, and the compressed blocks.
        max_scratch_bytes: The same, if nothing can be compressed.
    """

    model_config = ConfigDict(frozen=True)

    files: tuple[str, ...]
    views: int
    bytes: int
    file_bytes: int
    scratch_bytes: int
    max_scratch_bytes: int


def estimate_raster(plan: Plan, tiles: int) -> RasterEstimate | None:
    """Estimate the raster of a plan; None if its model answers with features.

    Args:
        plan: The plan of the image.
        tiles: Number of tiles that are sent to the model.
    """
    output = plan.request.raster_output
    if output is None:
        return None
    grid, layers = plan.grid, layers_of(output)
    pixels = sum(width * height for width, height in level_sizes(grid.width, grid.height))
    maps = tiles * grid.tile_width * grid.tile_height * band_count(output)
    kept = maps * map_dtype(output).itemsize
    blocks = [pixels * layer.pixel_bytes for layer in stored_layers(output)]
    small = sum(pixels * layer.pixel_bytes * _share(layer) for layer in stored_layers(output))
    return RasterEstimate(
        files=tuple(layer.name for layer in layers),
        views=plan.views,
        bytes=sum(pixels * layer.pixel_bytes for layer in layers),
        file_bytes=round(sum(pixels * layer.pixel_bytes * _share(layer) for layer in layers)),
        scratch_bytes=round(kept * _kept_share(output) + small),
        max_scratch_bytes=kept + sum(blocks),
    )


def _share(layer: Layer) -> float:
    if layer.categorical:
        return _CLASSES_SHARE
    return _FLOATS_SHARE if layer.dtype.kind == "f" else _PROBABILITIES_SHARE


def _kept_share(output: RasterOutput) -> float:
    if output.has_probabilities:
        return _MAPS_SHARE
    return _FLOATS_SHARE if output.is_values else _CLASSES_SHARE
