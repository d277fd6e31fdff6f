"""What is doubtful about an image, for its users to check."""

from __future__ import annotations

from tasks.errors import SwathError
from tasks.imagery.reading.alpha import alpha_values
from tasks.planning.plan import Plan

_MASK_VALUES = 2  # of a mask: data and none


def image_warnings(plan: Plan) -> list[str]:
    """What is doubtful about the image of a plan, each a sentence with the remedy.

    An image that cannot be read now has none of those that need pixels.
    """
    image, found = plan.image, list[str]()
    if image.unplaced:
        found.append(
            "the image has a geotransform without a CRS, so features have pixel coordinates only: "
            "add the CRS, with gdal_edit.py -a_srs EPSG:…"
        )
    try:
        values = alpha_values(image, plan.request.image_read_role)
    except SwathError:
        values = 0
    if values > _MASK_VALUES:
        found.append(
            f"band {image.alpha} is declared alpha and has more than two values, as a measured "
            "band has: pixels where it is 0 count as without data; if it is no mask, give "
            "imageAlpha ignore"
        )
    return found
