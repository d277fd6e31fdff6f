"""Refuses an image whose mask is a file of its own beside it, which is not read."""

from __future__ import annotations

from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws import clients
from tasks.errors import ImageError
from tasks.imagery.image import Image
from tasks.imagery.opening.allowed_inputs import bucket_and_key

_SUFFIX = ".msk"  # of GDAL's mask files


def check_no_mask_file(image: Image, read_role: str | None) -> None:
    """Refuse an image with a mask file beside it: pixels without data would be taken for data.

    Args:
        image: The image.
        read_role: IAM role to read S3 with, or None for the process's own identity.

    Raises:
        ImageError: There is such a file.
    """
    if _exists(image, read_role):
        raise ImageError(
            f"{image.url} has its mask in a file beside it ({_SUFFIX}), which Swath does not read: "
            "write it into a copy, with gdal_translate --config GDAL_TIFF_INTERNAL_MASK YES IN "
            "OUT.tif, or say with imageNodata which pixels hold no data."
        )


def _exists(image: Image, read_role: str | None) -> bool:
    """Whether the file is there; not, if that cannot be asked for."""
    address = bucket_and_key(image.url)
    if address is None:
        return Path(image.path + _SUFFIX).exists()
    bucket, key = address
    try:
        clients.client("s3", read_role).head_object(Bucket=bucket, Key=key + _SUFFIX)
    except (BotoCoreError, ClientError):
        return False
    return True
