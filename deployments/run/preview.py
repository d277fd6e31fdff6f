"""The picture of an image with its features or raster that `swath run --preview` writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.errors import RequestError

if TYPE_CHECKING:
    from tasks.reporting.summary import Summary
    from tasks.request import Request

_ENCODINGS: dict[str, Literal["PNG", "JPEG"]] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def check_preview(path: Path, request: Request) -> None:
    """Check that the previews can be written, before any tile costs money.

    Args:
        path: As the option names it.
        request: The message.

    Raises:
        RequestError: The name has no known ending or is that of an image, or its folder cannot be
            made.
    """
    if path.suffix.lower() not in _ENCODINGS:
        raise RequestError(
            f"--preview: {str(path)!r} does not end in {', '.join(_ENCODINGS)}; give preview.png."
        )
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"--preview: the folder of {path} cannot be made ({error}); give one that you may "
            "write to."
        ) from error
    pictures = (preview_path(path, request, url) for url in request.image_urls)
    existing = [picture for picture in pictures if picture.exists()]
    images = {os.path.realpath(url) for url in request.image_urls} if existing else set()
    for picture in existing:
        if os.path.realpath(picture) in images:
            raise RequestError(
                f"--preview: {picture} is an image of this run, which would be overwritten; give "
                "another file."
            )


def preview_path(path: Path, request: Request, url: str) -> Path:
    """The file of one image's preview: of several images, its own name is added.

    Args:
        path: As the option names it.
        request: The message.
        url: One of its images.
    """
    if len(request.image_urls) == 1:
        return path
    return path.with_name(f"{path.stem}-{request.file_names()[url]}{path.suffix}")


def write_preview(request: Request, summary: Summary, path: Path, roots: Sequence[Path]) -> None:
    """Draw an image with the features or the raster that were published for it.

    Args:
        request: The message.
        summary: The outcome of one of its images, published in a folder.
        path: The picture's file.
        roots: Local folders in which images are allowed.

    Raises:
        ImageError: The image cannot be read.
        PublishError: The picture cannot be written.
    """
    from tasks.imagery import open_image
    from tasks.planning.image import as_requested
    from tasks.publish.preview import preview_of_files
    from tasks.storage import objects

    features, coverage, raster = (
        Path(summary.outputs[name]) if name in summary.outputs else None
        for name in ("parquet", "coverage", "raster")
    )
    image = open_image(summary.image, read_role=request.image_read_role, roots=roots)
    picture = preview_of_files(
        as_requested(image, request),
        features,
        coverage,
        raster,
        encoding=_ENCODINGS[path.suffix.lower()],
        read_role=request.image_read_role,
    )
    objects.put(str(path.absolute()), picture)
