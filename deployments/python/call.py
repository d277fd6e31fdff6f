"""A run that a Python program calls, in its own process: the substance of `swath.run`."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from glob import has_magic
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from deployments.plan import estimate_image
from deployments.python.array import write_array
from deployments.python.notebook import NotebookBar
from deployments.python.result import Result, ResultFolder
from deployments.run.job import run_image
from deployments.run.model import ModelOptions
from deployments.run.options import RunOptions, TilingOptions
from deployments.run.progress import ProgressBar
from deployments.run.raster import RasterOptions
from tasks.errors import ImageError, RequestError
from tasks.job.observer import SILENT, Observer
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import IncompleteJobError, Summary
from tasks.storage.temporary import temporary_folder

if TYPE_CHECKING:
    from tasks.inference.callable import CallableModel
    from tasks.planning.estimate import Estimate


_PATH = (str, PathLike)


def result_of_run(
    image: object,
    options: RunOptions,
    function: CallableModel | None,
    *,
    transform: object,
    crs: object,
    out: Path | None,
    progress: bool,
) -> Result:
    """Run a model over an image.

    Args:
        image: Path, s3:// URL, or an array.
        options: All other options; its `images` and `out` are replaced.
        function: The model if it is a Python function; None if `options` names it.
        transform: Of an array, as for `write_array`.
        crs: Of an array, as for `write_array`.
        out: Folder for the results; None for a temporary one.
        progress: Whether to show the progress.

    Raises:
        IncompleteJobError: Every tile that was sent to the model failed.
        SwathError: An argument has an invalid value, or the image cannot be processed.
    """
    with ExitStack() as undo:
        folder = ResultFolder()
        undo.callback(folder.remove)
        file, tiling = image_file(image, options.tiling, folder.path, transform, crs)
        # an array has another name in each run, and a function may have changed
        lasting = out is not None and function is None and isinstance(image, _PATH)
        out = out or folder.path / "results"
        options = replace(options, images=(file,), tiling=tiling, out=out)
        request = options.request()
        options.make_folder()
        with _progress(shown=progress) as observer:
            summary = run_image(
                request,
                request.image_urls[0],
                observer,
                roots=options.roots(),
                region_rows=tiling.region_size,
                open_endpoint=None if function is None else function.open,
                answers=options.answers if lasting else None,
                fresh=options.fresh,
            )
        _check_status(summary, None if function is None else function.error)
        undo.pop_all()
    return Result(summary, request, folder)


def estimate(
    image: object,
    tiling: TilingOptions,
    model: ModelOptions | None,
    raster: RasterOptions,
    *,
    transform: object,
    crs: object,
) -> Estimate:
    """Estimate what an image will take; arguments and errors are those of `result_of_run`."""
    with temporary_folder() as folder:
        file, tiling = image_file(image, tiling, folder, transform, crs)
        return estimate_image(file, tiling, model, raster)[1]


def image_file(
    image: object, tiling: TilingOptions, folder: Path, transform: object, crs: object
) -> tuple[str, TilingOptions]:
    """The path or URL of an image, and the options for reading it.

    An array is written to a file in the folder, which declares the value of pixels without data.

    Raises:
        ImageError: It is several images, or the array cannot be written.
        RequestError: A transform is given for an image that is no array.
    """
    if isinstance(image, list | tuple) and any(isinstance(each, _PATH) for each in image):
        raise _several("a list of paths")
    if not isinstance(image, _PATH):
        file = folder / "array.tif"
        write_array(file, image, transform=transform, crs=crs, nodata=tiling.nodata)
        return str(file), replace(tiling, nodata=None)
    if transform is not None or crs is not None:
        given = "crs" if transform is None else "transform"
        raise RequestError(f"{given}: it is for arrays, and {image} has its own; leave it out.")
    path = fspath(image)
    several = Path(path).is_dir() or ("://" not in path and has_magic(path))
    if several and not Path(path).is_file():
        raise _several(path)
    return path, tiling


def _several(what: str) -> ImageError:
    return ImageError(
        f"image: {what} may be several images, and a result is of one; run each: "
        "[swath.run(path, …) for path in sorted(Path(folder).glob('*.tif'))]."
    )


def _progress(*, shown: bool) -> AbstractContextManager[Observer]:
    if not shown:
        return nullcontext(SILENT)
    console = Console(stderr=True, highlight=False, markup=False)
    return NotebookBar(console) if console.is_jupyter else ProgressBar(console)


def _check_status(summary: Summary, error: Exception | None) -> None:
    """Raise an error for a job that failed, with what a Python function raised as its cause."""
    if summary.status is JobStatus.FAILED:
        raise IncompleteJobError(summary) from error
    if summary.status is JobStatus.PARTIAL:
        warnings.warn(f"{summary.image} is PARTIAL: {summary.message}", stacklevel=4)
