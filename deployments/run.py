"""`swath run`: one image, without a queue, its regions in this process."""

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

_STOP_TIMEOUT = 3.0  # seconds after Ctrl-C in which a run may clean up before it is killed
_WITH_FILES = {"ONNX", "OIP_ENDPOINT"}  # endpoints that read a model or description from a file
EXIT = {JobStatus.SUCCESS: 0, JobStatus.FAILED: 1, JobStatus.PARTIAL: 3}


@dataclass(frozen=True)
class Options:
    """The options of the command.

    Attributes:
        image: Path or s3:// URL.
        tiling: Options for reading the image and cutting it into tiles.
        model: The model's name, URL, or ONNX file.
        type: Kind of endpoint.
        parameters: Parameters of the model, each NAME=VALUE.
        job_id: Identifier of the job.
        out: Folder for the results.
        json: Whether to print the outcome as a JSON object.
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
        """The request for the image.

        Raises:
            SwathError: An option has an invalid value.
        """
        fields = {
            "jobId": self.job_id,
            "outputs": [{"type": "File", "path": str(self.out.resolve())}],
            "imageProcessor": {"name": self._location(self.model), "type": self.type},
            "imageProcessorParameters": self._parameters(),
        }
        return build_request(self.image, self.tiling, fields)

    def roots(self) -> list[Path]:
        """The local roots to allow: the folders of the results and of every file in the options."""
        named = [self.image, self._location(self.model), *self._parameters().values()]
        files = [Path(name) for name in named if "://" not in name and Path(name).is_file()]
        return [self.out.resolve(), *(absolute_path(str(file)).parent for file in files)]

    def _parameters(self) -> dict[str, str]:
        pairs = dict(_name_and_value(option) for option in self.parameters)
        if "description" in pairs:
            pairs["description"] = self._location(pairs["description"])
        return pairs

    def _location(self, name: str) -> str:
        """A model file as an absolute path; any other name unchanged."""
        is_file = self.type in _WITH_FILES and "://" not in name
        return str(absolute_path(name)) if is_file else name


def kind_of(model: str) -> str:
    """The kind of endpoint that a model's name suggests."""
    if model.startswith(("http://", "https://")):
        return "OIP_ENDPOINT" if "/v2/models/" in model else "HTTP_ENDPOINT"
    return "ONNX" if model.lower().endswith(".onnx") else "BUILTIN"


def _name_and_value(option: str) -> tuple[str, str]:
    name, equals, value = option.partition("=")
    if not name or not equals:
        raise RequestError(f"--parameter: {option!r} is not NAME=VALUE.")
    return name, value


def run(options: Options, console: Console) -> int:
    """Run a model over an image; return the exit status."""
    try:
        request = options.request()
        console.print(f"{image_url(options.image)} · {request.job_id}", soft_wrap=True)
        with _local_environment(options), _prefect_server(console):
            summary = _run_flow(request, options, console)
    except SwathError as error:
        if options.json:
            print(json.dumps(_failed_outcome(options)))
        raise error from None
    console.print(f"{summary.status}: {summary.message}", soft_wrap=True, markup=False)
    if options.json:
        print(json.dumps(_outcome(summary)))
    else:
        print(*summary.outputs.values(), sep="\n")
    return EXIT[summary.status]


def _run_flow(request: Request, options: Options, console: Console) -> Summary:
    from prefect import tags
    from prefect.client.schemas.objects import State

    from deployments.watch import show_progress
    from flows.image import image
    from flows.image_runs import tags as tags_of

    with _interruptible(console), tags(*tags_of(request)), show_progress(request.job_id, console):
        state: State[Any] = image(
            request, region_size=options.tiling.region_size, return_state=True
        )
    summary: Summary | Exception = state.result(raise_on_failure=False)
    if isinstance(summary, JobFailedError):
        return summary.summary
    if isinstance(summary, Exception):
        raise SwathError(str(summary)) from summary
    return summary


@contextmanager
def _interruptible(console: Console) -> Iterator[None]:
    """Let Ctrl-C interrupt the block, and kill the process a few seconds later: a call may hang."""

    def stop(*_: object) -> NoReturn:
        console.print("Stopping …")
        timer = Timer(_STOP_TIMEOUT, os._exit, (128 + signal.SIGINT,))
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _local_environment(options: Options) -> Iterator[None]:
    """Set this process's environment: allowed roots, regions in this process, quiet logs."""
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublishError(
            f"--out: {options.out} is not a usable folder ({error}); give a folder that you may "
            "write to."
        ) from error
    roots = options.roots()
    with tempfile.TemporaryDirectory(prefix="swath-", ignore_cleanup_errors=True) as work:
        os.environ |= {
            "SWATH_LOCAL_ROOTS": json.dumps([str(root) for root in roots]),
            "SWATH_WORK_URI": work,
        }
        os.environ.pop("SWATH_REGION_DEPLOYMENT", None)
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # the outcome says what failed
        yield


@contextmanager
def _prefect_server(console: Console) -> Iterator[None]:
    """Use the Prefect server that is running, or start a temporary one for the block."""
    if api_url := find_server():
        os.environ["PREFECT_API_URL"] = api_url
        yield
        return
    with temporary_server() as server:
        with console.status("Starting a temporary Prefect server …"):
            if not console.is_terminal:
                console.print("Starting a temporary Prefect server …")
            os.environ |= server.environment
            import flows.image  # noqa: F401 - slow to import: done while the server starts

            server.wait()
        yield


def _outcome(summary: Summary) -> dict[str, Any]:
    """The outcome as `--json` prints it."""
    fields = summary.model_dump(
        mode="json", include={"job_id", "status", "features", "tiles", "outputs"}
    )
    return fields | {"covered": summary.covered}


def _failed_outcome(options: Options) -> dict[str, Any]:
    return {
        "job_id": options.job_id,
        "status": JobStatus.FAILED,
        "features": 0,
        "tiles": dict.fromkeys(("inferred", "blank", "outside", "failed"), 0),
        "outputs": {},
        "covered": 0.0,
    }
