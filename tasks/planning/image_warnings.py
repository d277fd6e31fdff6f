"""What is doubtful about an image, or about it for its model, for users to check."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.errors import SwathError
from tasks.imagery.georeference.resampled import metres_per_pixel
from tasks.imagery.reading.alpha import alpha_values
from tasks.inference.trained_resolution import trained_resolution
from tasks.planning.plan import Plan

_MASK_VALUES = 2  # of a mask: data and none
_MAX_RATIO = 1.5  # of the resolutions of a model and of its tiles


def image_warnings(plan: Plan) -> list[str]:
    """What is doubtful about the image of a plan, each a sentence with the remedy."""
    return [*_unplaced(plan), *_alpha(plan), *_resolution(plan)]


def _unplaced(plan: Plan) -> Iterator[str]:
    """A geotransform without a CRS."""
    if plan.image.unplaced:
        yield (
            "the image has a geotransform without a CRS, so features have pixel coordinates only: "
            "add the CRS, with gdal_edit.py -a_srs EPSG:…"
        )


def _alpha(plan: Plan) -> Iterator[str]:
    """An alpha band that is no mask; unknown if the image cannot be read now."""
    try:
        values = alpha_values(plan.image, plan.request.image_read_role)
    except SwathError:
        return
    if values > _MASK_VALUES:
        yield (
            f"band {plan.image.alpha} is declared alpha and has more than two values, as a "
            "measured band has: pixels where it is 0 count as without data; if it is no mask, give "
            "imageAlpha ignore"
        )


def _resolution(plan: Plan) -> Iterator[str]:
    """Tiles of another resolution than the model was trained at."""
    trained = trained_resolution(plan.request)
    own = metres_per_pixel(plan.image.georeference, plan.image.size)
    if trained is None or own is None:
        return
    sent = plan.request.image_resolution or own
    if not 1 / _MAX_RATIO <= sent / trained <= _MAX_RATIO:
        yield (
            f"the model's description names {trained:g} m a pixel, and tiles have {sent:.3g} m: "
            f"give imageResolution {trained:g}"
        )
