"""A job in this process alone, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.job.observer import SILENT
from tasks.settings import ForeignResults, settings
from tasks.storage.temporary import temporary_folder

if TYPE_CHECKING:
    from tasks.inference import OpenEndpoint
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
    open_endpoint: OpenEndpoint | None = None,
    answers: Path | None = None,
    fresh: bool = False,
) -> Summary:
    """Detect the objects of an image and publish them, in this process alone.

    The settings of the environment apply, but for the local roots and the work folder.

    Args:
        request: The message.
        image_url: One of its images.
        observer: Is notified of the progress.
        roots: Local folders in which the request may name files and outputs.
        region_rows: Approximate height of a region in pixels; None for the operator's setting, or
            else for regions of some minutes each.
        open_endpoint: Opens the endpoint; None for the one that the request names.
        answers: Folder in which the model's answers are kept, and those of an earlier run are
            found; None to keep none.
        fresh: Whether to forget the answers that are kept of this image.

    Returns:
        The outcome, also if its status is FAILED; its `outputs` are the paths of the published
        files.

    Raises:
        SwathError: The request cannot be processed, or the results cannot be published.
    """
    from tasks.inference import open_with_retries
    from tasks.job import work_image
    from tasks.records.folders import forget_image

    with local_settings(roots, answers):
        if fresh:
            forget_image(request.job_id, image_url)
        return work_image(
            request,
            image_url,
            observer,
            region_rows=region_rows,
            open_endpoint=open_endpoint or open_with_retries,
        )


@contextmanager
def local_settings(roots: Sequence[Path], answers: Path | None) -> Iterator[None]:
    """Set allowed roots and the work folder in this thread's settings, and regions here.

    Results of an earlier run under the same names are replaced, whichever job they are of.

    Args:
        roots: Local folders in which requests may name files and outputs.
        answers: Folder in which answers are kept, of all jobs together; None for a temporary one.
    """
    with (
        nullcontext(answers) if answers else temporary_folder() as work,
        settings.override(
            local_roots=list(roots),
            work_uri=str(work),
            keep_by_job=False,
            foreign_results=ForeignResults.REPLACE,
            region_deployment=None,
            onnx_region_deployment=None,
        ),
    ):
        yield
