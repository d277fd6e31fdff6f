"""`swath plan`: the estimated cost of an image, before any model is called."""

from __future__ import annotations

import json as json_text
from typing import Any

from rich.console import Console

from deployments.run.images import find_images
from deployments.run.model import ModelOptions
from deployments.run.option_names import in_options, naming_options
from deployments.run.options import TilingOptions, build_request
from deployments.run.raster import RasterOptions
from tasks.cost.usage import bytes_text
from tasks.imagery import check_encodable
from tasks.inference.model_defaults import resolve
from tasks.planning.estimate import Estimate, estimate
from tasks.planning.plan import make_plan
from tasks.request import Request
from tasks.settings import settings

_ANY_MODEL = ModelOptions("centerpoint")  # required by the request, not called
_FEATURES = RasterOptions()
_NO_OUTPUT = [{"type": "S3", "bucket": "not-written", "prefix": ""}]  # required, not written

_BLANK = {
    "counted": "blank",
    "estimated": "blank, estimated from the image's overviews",
    "unknown": "blank, perhaps more: the image has no overviews to estimate from",
}

_STRIPS = (
    "its blocks are wider than a region, so each is read for several regions; "
    "gdal_translate -of COG makes a copy whose blocks are read once"
)

_SIZED = "for {:g} s per tile; a run uses the measured throughput of its model"


def plan(
    images: tuple[str, ...],
    tiling: TilingOptions,
    console: Console,
    *,
    model: ModelOptions | None = None,
    raster: RasterOptions = _FEATURES,
    json: bool = False,
) -> None:
    """Print the estimate for each image, as text or as JSON: an object, or a list of several.

    Args:
        images: Paths of images or folders, patterns, and s3:// URLs.
        tiling: Options for reading the images and cutting them into tiles.
        console: Where messages are printed.
        model: The model, which may have a tile size of its own; None for any.
        raster: Options for a model that answers with pixels.
        json: Whether to print JSON.

    Raises:
        SwathError: An image cannot be processed with these options.
    """
    found = find_images(images)
    if found.skipped:
        console.print(found.skipped_text, soft_wrap=True)
    estimates = [estimate_image(url, tiling, model, raster) for url in found.urls]
    if json:
        figures = [estimated.model_dump(mode="json") for _, estimated in estimates]
        print(json_text.dumps(figures if len(figures) > 1 else figures[0], indent=2))
    else:
        print("\n\n".join(_text(*each) for each in estimates))


def estimate_image(
    image: str,
    tiling: TilingOptions,
    model: ModelOptions | None = None,
    raster: RasterOptions = _FEATURES,
) -> tuple[Request, Estimate]:
    """A request for an image, and the estimate of what it will take.

    Args:
        image: Path or s3:// URL.
        tiling: Options for reading it and cutting it into tiles.
        model: The model, which may have a tile size of its own; None for any.
        raster: Options for a model that answers with pixels.

    Raises:
        SwathError: The image cannot be processed with these options.
    """
    images = find_images([image])
    model = model or _ANY_MODEL
    fields: dict[str, Any] = {"jobId": "plan", "outputs": _NO_OUTPUT}
    if output := raster.output():
        fields["rasterOutput"] = output
    request = build_request(images, fields | tiling.message() | model.message())
    roots = [*images.roots, *model.folders()]
    with naming_options(), settings.override(local_roots=roots):
        request = resolve(request)
        found = make_plan(request, request.image_urls[0])
        check_encodable(found.preparation.image, request.tile_format, request.tile_compression)
        return found.request, estimate(found, tiling.region_size)


def _text(request: Request, estimated: Estimate) -> str:
    encoding = f"{request.tile_format}/{request.tile_compression}"
    return "\n".join(f"{name:<14}{value}" for name, value in _lines(estimated, encoding))


def _lines(cost: Estimate, encoding: str) -> list[tuple[str, str]]:
    stored = f"{cost.format}, {bytes_text(cost.stored_bytes)}"
    tiles = f"{sum(cost.tiles.values()):,} of {cost.tile_size[0]} × {cost.tile_size[1]} pixels"
    share = cost.bytes_to_read / cost.stored_bytes
    return [
        ("image", cost.image),
        (
            "size",
            f"{cost.width:,} × {cost.height:,} pixels, {cost.bands} × {cost.dtype}",
        ),
        (
            "format",
            f"{stored}, blocks of {cost.block_shape[1]:,} × {cost.block_shape[0]:,}",
        ),
        (
            "georeference",
            cost.georeference or "none: features will have pixel coordinates only",
        ),
        *([("no data", cost.no_data)] if cost.no_data else []),
        ("tiles", f"{tiles}, overlap at least {cost.tile_overlap}"),
        ("", f"{cost.tiles['inferred']:,} to the model"),
        ("", f"{cost.tiles['blank']:,} {_BLANK[cost.blank_is]}"),
        ("", f"{cost.tiles['outside']:,} outside the region of interest"),
        (
            "regions",
            f"{cost.regions:,}, up to {cost.region_size[0]:,} × {cost.region_size[1]:,} pixels",
        ),
        *([("", _SIZED.format(cost.tile_seconds))] if cost.tile_seconds else []),
        ("reading", f"{bytes_text(cost.bytes_to_read)}, {share:.2f} of the file"),
        *([("", _STRIPS)] if cost.region_size[0] < cost.block_shape[1] else []),
        (
            "model calls",
            f"{cost.model_calls:,}, {bytes_text(cost.bytes_to_send)} of pixels as {encoding}",
        ),
        *([("sent", cost.prepared)] if cost.prepared else []),
        *_raster_lines(cost),
        ("memory", f"at most {bytes_text(cost.memory_bytes)} for each region run"),
        ("uses", _used(cost)),
        *([("costs", f"about {cost.cost.text}")] if cost.cost else []),
        *([("", cost.cost.parts_text)] if cost.cost and cost.cost.total else []),
        *(("warning", in_options(warning)) for warning in cost.warnings),
    ]


def _used(cost: Estimate) -> str:
    stored = bytes_text(cost.usage.bytes_stored)
    seconds = f"about {cost.usage.cpu_seconds:,.1f} vCPU-seconds"
    return f"{seconds} beside those of a model in this process; stores about {stored}"


def _raster_lines(cost: Estimate) -> list[tuple[str, str]]:
    if cost.raster is None:
        return []
    raster = cost.raster
    files = f"about {bytes_text(raster.file_bytes)} in {' and '.join(raster.files)}"
    scratch = (
        f"about {bytes_text(raster.scratch_bytes)}, at most {bytes_text(raster.max_scratch_bytes)}"
    )
    return [
        *([("", f"{raster.views} views of each tile")] if raster.views > 1 else []),
        ("raster", f"{bytes_text(raster.bytes)} of pixels with overviews, {files}"),
        ("scratch", f"{scratch}, of kept answers and blocks"),
    ]
