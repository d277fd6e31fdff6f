"""What a request says of the content of tiles: which bands, and how their values are scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from tasks.errors import RequestError
from tasks.imagery import Image, Resolution, TilePreparation, check_value
from tasks.request import ImageScaling, Request, ScalingType

if TYPE_CHECKING:
    from tasks.inference.band_preparation import BandPreparation


def preparation_of(
    request: Request, image: Image, resolution: Resolution | None = None
) -> TilePreparation:
    """How the tiles of an image are prepared for the model, whatever its endpoint.

    Args:
        request: The message, with the numbers of its scaling.
        image: One of its images.
        resolution: The pixels in which tiles are sent; None for those of the image.

    Raises:
        RequestError: The image lacks a band, or its pixels cannot be scaled so or hold the fill.
    """
    scaling, fill = request.image_scaling, request.image_fill or 0
    check_value("imageFill", fill, image)
    if not request.image_bands and scaling is None and resolution is None:
        return TilePreparation(image, fill)
    bands = band_numbers(request, TilePreparation(image, fill).image)
    if scaling is not None:
        _check_scalable(scaling, image, len(bands))
    from tasks.inference.band_preparation import (  # noqa: PLC0415 - slow; few requests name bands
        BandPreparation,
    )

    return BandPreparation(image, fill, bands, scaling, resolution)


def prepared_as(request: Request, preparation: TilePreparation) -> dict[str, Any] | None:
    """What a request says of the content of tiles, with all numbers; None if it says nothing."""
    fill: dict[str, Any] = {"fill": preparation.fill}
    if request.image_resolution is not None:
        fill = {"resolution": request.image_resolution} | fill
    if not _chooses_bands(preparation):
        return None if request.image_fill is None and len(fill) == 1 else fill
    scaling = preparation.scaling
    numbers = scaling and scaling.content
    return {"bands": list(preparation.bands), "scaling": numbers} | fill


def prepared_text(request: Request, preparation: TilePreparation) -> str:
    """The same in words; empty if the request says nothing."""
    fill = f"pixels without data hold {preparation.fill:g}"
    if not _chooses_bands(preparation):
        return "" if request.image_fill is None else fill
    names = TilePreparation(preparation.source).image.band_names[1]
    bands = [
        str(band) if names[band - 1] == "undefined" else f"{band} ({names[band - 1]})"
        for band in preparation.bands
    ]
    parts = [] if preparation.resolution is None else [preparation.resolution.text]
    parts.append(f"band{'' if len(bands) == 1 else 's'} {', '.join(bands)}")
    if preparation.scaling is not None:
        parts.append(_scaling_text(preparation.scaling))
    return "; ".join([*parts, fill])


def _chooses_bands(preparation: TilePreparation) -> TypeGuard[BandPreparation]:
    return type(preparation) is not TilePreparation


def band_numbers(request: Request, image: Image) -> tuple[int, ...]:
    """The numbers, from 1, of the bands that a request asks for: all but alpha unless it names any.

    Raises:
        RequestError: The image lacks one; the message has those that there are.
    """
    if not request.image_bands:
        every = range(1, image.bands + 1)
        return tuple(band for band in every if band != image.alpha or image.bands == 1)
    return tuple(_number(band, image) for band in request.image_bands)


def _number(band: int | str, image: Image) -> int:
    if isinstance(band, int):
        if band > image.bands:
            raise RequestError(
                f"imageBands: names band {band}, and {image.url} has {_count(image.bands)}; give "
                "numbers of its bands."
            )
        return band
    for kind in image.band_names:
        names = [name.lower() for name in kind]
        if band.lower() in names:
            return names.index(band.lower()) + 1
    there = ", ".join(image.band_names[1])
    raise RequestError(
        f"imageBands: {image.url} has no band {band!r} (it has {there}); give the number, from 1 "
        f"to {image.bands}."
    )


def _check_scalable(scaling: ImageScaling, image: Image, bands: int) -> None:
    if image.palette:
        raise RequestError(
            f"imageScaling: the pixels of {image.url} are numbers of colours in a table, which "
            "cannot be scaled; leave it out, or expand them: gdal_translate -expand rgb."
        )
    if np.dtype(image.dtype).kind == "c":
        raise RequestError(
            f"imageScaling: the pixels of {image.url} are complex ({image.dtype}), and only real "
            "ones are scaled; leave it out."
        )
    given = len(scaling.numbers[0])
    if given not in (1, bands):
        raise RequestError(
            f"imageScaling: has numbers for {_count(given)}, and {_count(bands)} are sent; give "
            "one number for all, or one for each."
        )


def _scaling_text(scaling: ImageScaling) -> str:
    first, second = scaling.numbers
    if scaling.type is ScalingType.Z_SCORE:
        pairs = [f"{a:g} ± {b:g}" for a, b in zip(first, second, strict=True)]
        return f"z-scores of {', '.join(pairs)}, as float32"
    pairs = [f"{a:g} to {b:g}" for a, b in zip(first, second, strict=True)]
    where = ""
    if scaling.type is ScalingType.PERCENTILE:
        where = f" (percentiles {scaling.lower:g} and {scaling.upper:g} of the image)"
    largest = scaling.largest
    return f"{', '.join(pairs)}{where} scaled to 0 to {largest:g}, as {scaling.dtype}"


def _count(bands: int) -> str:
    return "1 band" if bands == 1 else f"{bands} bands"
