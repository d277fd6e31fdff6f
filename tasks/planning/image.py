"""The image of a request, with what the request says of its pixels."""

from __future__ import annotations

from tasks.errors import ImageChangedError
from tasks.imagery import Image, check_no_mask_file, open_image, with_nodata, without_alpha
from tasks.request import Request
from tasks.request.image_alpha import ImageAlpha
from tasks.settings import settings


def requested_image(request: Request, image_url: str, etag: str | None) -> Image:
    """Open an image of a request.

    Args:
        request: The message.
        image_url: One of its images.
        etag: The image version that the job began with; None if the job begins here.

    Raises:
        ImageError: The image cannot be read, or not safely.
        ImageChangedError: The image is another version than `etag`.
        RequestError: No pixel of the image can have the nodata value of the request.
    """
    image = open_image(
        image_url,
        read_role=request.image_read_role,
        roots=settings().local_roots,
        dem=settings().dem_uri,
    )
    if etag is not None and image.etag != etag:
        raise ImageChangedError(
            f"{image_url} was replaced since the work began (version {etag}, now {image.etag}): "
            "send the request again."
        )
    if etag is None and request.image_nodata is None:
        check_no_mask_file(image, request.image_read_role)
    return as_requested(image, request)


def as_requested(image: Image, request: Request) -> Image:
    """An image whose pixels without data are those that a request says.

    Raises:
        RequestError: No pixel of the image can have the nodata value.
    """
    if request.image_alpha is ImageAlpha.IGNORE:
        image = without_alpha(image)
    return with_nodata(image, request.image_nodata)
