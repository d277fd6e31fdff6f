"""Keeps the images of a request from being replaced by what is published for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tasks.errors import RequestError
from tasks.publish.claim import FileNames, stems
from tasks.request import KinesisOutput, Request
from tasks.storage.objects import is_s3


def check_images_stay(request: Request, image_url: str, roots: Sequence[Path]) -> None:
    """Check before any tile is sent that no file to publish has the place of an image.

    Args:
        request: The message, with images and outputs.
        image_url: One of its images, whose files are meant.
        roots: Folders that the operator allows local outputs in.

    Raises:
        RequestError: An image would be replaced.
    """
    images = {_place(url): url for url in request.image_urls}
    own = stems(request.file_names()[image_url], request.job_id)
    for index, output in enumerate(request.outputs):
        if isinstance(output, KinesisOutput):
            continue
        for stem in own:
            for uri in FileNames.of(output, stem, roots).files.values():
                if image := images.get(_place(uri)):
                    raise RequestError(
                        f"outputs[{index}]: {uri}, a file that is published for {image_url}, would "
                        f"replace the image {image}; name another folder or prefix."
                    )


def _place(uri: str) -> str:
    """What the URIs of one object have in common."""
    return uri if is_s3(uri) else os.path.realpath(uri)
