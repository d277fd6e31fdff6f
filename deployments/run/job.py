"""A job in this process alone, without a server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.job.observer import SILENT
from tasks.settings import settings
from tasks.storage.temporary import temporary_folder

if TYPE_CHECKING:
    from tasks.job import Observer
    from tasks.reporting.summary import Summary
    from tasks.request import Request


def run_image(
    request: Request,
    image_url: str,
    observer: Observer = SILENT,
    *,
    roots: Sequence[Path],
    region_rows: int | None = None,
) -> Summary:
    """Detect the objects of an image and publish them, in this process alone.

    The settings of the environment apply, but for the local roots and the work folder. They are
    set for the whole process while it runs, so call it from one thread at a time.

    Args:
        request: The message.
        image_url: One of its images.
        observer: Is notified of the progress.
        roots: Local folders in which the request may name files and outputs.
        region_rows: Approximate height of a region in pixels; None for the operator's setting, or
            else for regions of some minutes each.

    Returns:
        The outcome, also if its status is FAILED; its `outputs` are the paths of the published
        files.

    Raises:
        SwathError: The request cannot be processed, or the results cannot be published.
    """
    from tasks.job import work_image

    with local_settings(roots):
        return work_image(request, image_url, observer, region_rows=region_rows)


@contextmanager
def local_settings(roots: Sequence[Path]) -> Iterator[None]:
    """Set the allowed roots and a temporary work folder in this process's settings.

    Args:
        roots: Local folders in which requests may name files and outputs.
    """
    with temporary_folder() as work:
        allowed = json.dumps([str(root) for root in roots])
        with _environment({"SWATH_LOCAL_ROOTS": allowed, "SWATH_WORK_URI": str(work)}):
            yield


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while the block lasts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    settings.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        settings.cache_clear()
