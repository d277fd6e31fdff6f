"""`swath run`: one image now, without a queue, with its regions in this process."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from deployments.local.server import own_server, server_in_use
from tasks.errors import ImageError, PublishError, RequestError, SwathError
from tasks.request import Request
from tasks.status import JobStatus

if TYPE_CHECKING:
    from tasks.summary import Summary

_PATIENCE = 3.0  # seconds that an interrupted run may take to end in order
_INTERRUPTED = 130
EXIT = {JobStatus.SUCCESS: 0, JobStatus.FAILED: 1, JobStatus.PARTIAL: 3}


@dataclass(frozen=True)
class Options:
    """What was typed; None where nothing was, so that the message's own defaults hold.

    Attributes:
        image: Path or s3:// URL.
        model: The model's name or URL.
        type: Kind of endpoint.
        tile_size: Pixels of a tile's side.
        overlap: Pixels that tiles share at least.
        tile_format: Encoding of tiles.
        tile_compression: Compression of tiles.
        roi: Polygon, WKT.
        region_size: Pixels of a region's side, about.
        job_id: Name of the job.
        out: Folder for the results.
        json: Whether to end with a JSON object.
    """

    image: str
    model: str
    type: str
    tile_size: int | None
    overlap: int | None
    tile_format: str | None
    tile_compression: str | None
    roi: str | None
    region_size: int | None
    job_id: str
    out: Path
    json: bool

    def request(self) -> Request:
        """The message that asks for it.

        Raises:
            RequestError: An option cannot be honoured.
        """
        if self.region_size is not None and self.region_size < 1:
            raise RequestError(f"--region-size: {self.region_size} is not 1 or more.")
        if "://" not in self.image and not Path(self.image).is_file():
            raise ImageError(f"{self.image}: there is no such file; give the path of an image.")
        given = {
            "imageProcessorTileSize": self.tile_size,
            "imageProcessorTileOverlap": self.overlap,
            "imageProcessorTileFormat": self.tile_format,
            "imageProcessorTileCompression": self.tile_compression,
            "regionOfInterest": self.roi,
        }
        message: dict[str, Any] = {
            "jobId": self.job_id,
            "imageUrls": [self.image_url],
            "outputs": [{"type": "File", "path": str(self.out.absolute())}],
            "imageProcessor": {"name": self.model, "type": self.type},
        }
        message |= {name: value for name, value in given.items() if value is not None}
        return Request.parse(json.dumps(message))

    @property
    def image_url(self) -> str:
        """The image as a message names it."""
        return self.image if "://" in self.image else str(Path(self.image).absolute())


def run(options: Options, console: Console) -> int:
    """Run a model over an image; returns the exit status."""
    try:
        request = options.request()
        console.print(f"{options.image_url} · {request.job_id}", soft_wrap=True)
        with _environment(options), _prefect(console):
            summary = _run(request, options, console)
    except SwathError as error:
        if options.json:
            print(json.dumps(_refused(options)))
        raise error from None
    console.print(f"{summary.status}: {summary.message}", soft_wrap=True, markup=False)
    if options.json:
        print(json.dumps(_object(summary)))
    else:
        print(*summary.outputs.values(), sep="\n")
    return EXIT[summary.status]


def _run(request: Request, options: Options, console: Console) -> Summary:
    from prefect import tags
    from prefect.client.schemas.objects import State

    from deployments.watch import watching
    from flows.image import image
    from flows.launch import tags as tags_of

    with _interruptible(console), tags(*tags_of(request)), watching(request.job_id, console):
        end: State[Any] = image(request, region_size=options.region_size, return_state=True)
    summary: Summary | Exception = end.result(raise_on_failure=False)
    if isinstance(summary, Exception):
        raise SwathError(str(summary)) from summary
    return summary


@contextmanager
def _interruptible(console: Console) -> Iterator[None]:
    """Ctrl-C ends the block in order, or in a few seconds without: a model may hang for long."""

    def stop(*_: object) -> NoReturn:
        console.print("Stopping …")
        at_last = Timer(_PATIENCE, os._exit, (_INTERRUPTED,))
        at_last.daemon = True
        at_last.start()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _environment(options: Options) -> Iterator[None]:
    """This process as one that may read the image and write the folder, and runs regions here."""
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublishError(f"--out: {options.out} cannot be a folder: {error}") from error
    roots = [options.out.absolute()]
    if "://" not in options.image:
        roots.append(Path(options.image).absolute().parent)
    with tempfile.TemporaryDirectory(prefix="swath-", ignore_cleanup_errors=True) as work:
        os.environ |= {
            "SWATH_LOCAL_ROOTS": json.dumps([str(root) for root in roots]),
            "SWATH_WORK_URI": work,
        }
        os.environ.pop("SWATH_REGION_DEPLOYMENT", None)
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # the end says what failed
        yield


@contextmanager
def _prefect(console: Console) -> Iterator[None]:
    """A Prefect server that is up, else one of our own."""
    if api_url := server_in_use():
        os.environ["PREFECT_API_URL"] = api_url
        yield
        return
    with own_server() as server:
        with console.status("Starting a Prefect server of its own …"):
            if not console.is_terminal:
                console.print("Starting a Prefect server of its own …")
            os.environ |= server.environment
            import flows.image  # noqa: F401 - slow: it loads while the server starts

            server.wait()
        yield


def _object(summary: Summary) -> dict[str, Any]:
    """The outcome as `--json` promises it."""
    return summary.model_dump(
        mode="json", include={"job_id", "status", "features", "tiles", "outputs"}
    )


def _refused(options: Options) -> dict[str, Any]:
    return {
        "job_id": options.job_id,
        "status": JobStatus.FAILED,
        "features": 0,
        "tiles": dict.fromkeys(("inferred", "blank", "outside", "failed"), 0),
        "outputs": {},
    }
