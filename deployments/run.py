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

from deployments.local.server_for_command import find_server, temporary_server
from deployments.options import TilingOptions, absolute_path, build_request, image_url
from tasks.errors import PublishError, RequestError, SwathError
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import JobFailedError
from tasks.request import Request

if TYPE_CHECKING:
    from tasks.reporting.summary import Summary

_PATIENCE = 3.0  # seconds that an interrupted run may take to end in order
_INTERRUPTED = 130
_WITH_FILES = {"ONNX", "OIP_ENDPOINT"}  # kinds of endpoint that read a model or its description
EXIT = {JobStatus.SUCCESS: 0, JobStatus.FAILED: 1, JobStatus.PARTIAL: 3}


@dataclass(frozen=True)
class Options:
    """What was typed.

    Attributes:
        image: Path or s3:// URL.
        cut: How it is cut.
        model: The model's name, URL, or ONNX file.
        type: Kind of endpoint.
        parameters: For the model, each NAME=VALUE.
        job_id: Name of the job.
        out: Folder for the results.
        json: Whether to end with a JSON object.
    """

    image: str
    tiling: TilingOptions
    model: str
    type: str
    parameters: tuple[str, ...]
    job_id: str
    out: Path
    json: bool

    def request(self) -> Request:
        """The message that asks for it.

        Raises:
            SwathError: An option cannot be honoured.
        """
        fields = {
            "jobId": self.job_id,
            "outputs": [{"type": "File", "path": str(self.out.resolve())}],
            "imageProcessor": {"name": self._place(self.model), "type": self.type},
            "imageProcessorParameters": self._parameters(),
        }
        return build_request(self.image, self.tiling, fields)

    def roots(self) -> list[Path]:
        """The folders of all files that were named."""
        named = [self.image, self._place(self.model), *self._parameters().values()]
        files = [Path(name) for name in named if "://" not in name and Path(name).is_file()]
        return [self.out.resolve(), *(absolute_path(str(file)).parent for file in files)]

    def _parameters(self) -> dict[str, str]:
        pairs = dict(_pair(typed) for typed in self.parameters)
        if "description" in pairs:
            pairs["description"] = self._place(pairs["description"])
        return pairs

    def _place(self, name: str) -> str:
        """A file of a model as a message names it; anything else as it is."""
        is_file = self.type in _WITH_FILES and "://" not in name
        return str(absolute_path(name)) if is_file else name


def kind_of(model: str) -> str:
    """The kind of endpoint that a model most likely is."""
    if model.startswith(("http://", "https://")):
        return "OIP_ENDPOINT" if "/v2/models/" in model else "HTTP_ENDPOINT"
    return "ONNX" if model.lower().endswith(".onnx") else "BUILTIN"


def _pair(typed: str) -> tuple[str, str]:
    name, equals, value = typed.partition("=")
    if not name or not equals:
        raise RequestError(f"--parameter: {typed!r} is not NAME=VALUE.")
    return name, value


def run(options: Options, console: Console) -> int:
    """Run a model over an image; returns the exit status."""
    try:
        request = options.request()
        console.print(f"{image_url(options.image)} · {request.job_id}", soft_wrap=True)
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
    from flows.image_runs import tags as tags_of

    with _interruptible(console), tags(*tags_of(request)), watching(request.job_id, console):
        end: State[Any] = image(request, region_size=options.tiling.region_size, return_state=True)
    summary: Summary | Exception = end.result(raise_on_failure=False)
    if isinstance(summary, JobFailedError):
        return summary.summary
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
    roots = options.roots()
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
    if api_url := find_server():
        os.environ["PREFECT_API_URL"] = api_url
        yield
        return
    with temporary_server() as server:
        with console.status("Starting a Prefect server of its own …"):
            if not console.is_terminal:
                console.print("Starting a Prefect server of its own …")
            os.environ |= server.environment
            import flows.image  # noqa: F401 - slow: it loads while the server starts

            server.wait()
        yield


def _object(summary: Summary) -> dict[str, Any]:
    """The outcome as `--json` promises it."""
    told = summary.model_dump(
        mode="json", include={"job_id", "status", "features", "tiles", "outputs"}
    )
    return told | {"covered": summary.covered}


def _refused(options: Options) -> dict[str, Any]:
    return {
        "job_id": options.job_id,
        "status": JobStatus.FAILED,
        "features": 0,
        "tiles": dict.fromkeys(("inferred", "blank", "outside", "failed"), 0),
        "outputs": {},
        "covered": 0.0,
    }
