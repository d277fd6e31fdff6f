"""Which images of a job a command is about."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.errors import RequestError
from tasks.request.locations import file_name

_SHOWN = 5  # images in an error


def chosen(image: str | None, urls: Iterable[str]) -> list[str]:
    """The images that are meant.

    Args:
        image: A URL or a file name; None for all images.
        urls: The images of the job.

    Raises:
        RequestError: None of them, or several, are meant by a name.
    """
    known = sorted(urls)
    if image is None:
        return known
    found = [url for url in known if image in (url, file_name(url))]
    if len(found) == 1:
        return found
    shown = ", ".join((found or known)[:_SHOWN]) + (" …" if len(found or known) > _SHOWN else "")
    if found:
        raise RequestError(f"IMAGE: {image!r} is the name of several images; give one of {shown}")
    raise RequestError(f"IMAGE: {image!r} is no image of the job; give one of {shown}")
