"""The command line `swath`.

Modules that are slow to import are imported inside the commands, so that each responds at once.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from deployments.commands.jobs import jobs
from deployments.commands.models import models
from deployments.commands.results import results
from deployments.console import console
from deployments.run.merging import MergingOptions
from deployments.run.model import ModelOptions
from deployments.run.option_help import MERGING, MODEL, RESULTS
from deployments.run.options import RunOptions, TilingOptions, new_job_id
from deployments.run.raster import RasterOptions
from tasks.errors import SwathError

DEFAULT_TILING, DEFAULT_MERGING = TilingOptions(), MergingOptions()
DEFAULT_RASTER = RasterOptions()
IMAGES_HELP = (
    "Paths of images, folders of images, patterns in quotes ('june/*.tif'), or s3://bucket/key."
)
EndpointKind = Annotated[
    Literal["BUILTIN", "HTTP_ENDPOINT", "SM_ENDPOINT", "OIP_ENDPOINT", "ONNX"] | None,
    Parameter(group=MODEL, help="Kind of endpoint.", show_default=lambda _: "by the model"),
]
ModelParameters = Annotated[
    tuple[str, ...],
    Parameter(
        group=MODEL,
        help="NAME=VALUE of imageProcessorParameters. May be repeated.",
        show_default=False,
    ),
]
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130

app = App(
    name="swath",
    help="Run machine-learning models over satellite images of any size.",
    version=lambda: version("swath"),
    version_flags=["--version"],
    result_action="return_value",
    default_parameter=Parameter(negative=()),
)
app.command(models)
app.update(jobs)
app.update(results)


@app.command(sort_key=7)
def demo(
    *,
    image: Annotated[Path | None, Parameter(help="Your own image in place of the harbour.")] = None,
    out: Annotated[Path, Parameter(help="Folder for the results and logs.")] = Path("demo"),
    keep_running: Annotated[
        bool, Parameter(negative=(), help="Keep the stack running at the end.")
    ] = False,
) -> int:
    """Demonstrate the whole system on this machine: queue, flows, model, results."""
    from deployments.demo.show import show

    return show(image, out, keep_running=keep_running, console=console)


@app.command(sort_key=6)
def up(
    *,
    root: Annotated[
        tuple[Path, ...],
        Parameter(
            help="Folder in which requests may name images and outputs. May be repeated.",
            show_default=lambda _: "your home and the current folder",
        ),
    ] = (Path.home(), Path()),
    fresh: Annotated[
        bool,
        Parameter(
            show_default=False, help="Remove the queues, buckets and runs of earlier stacks first."
        ),
    ] = False,
) -> int:
    """Run the local stack (AWS, Prefect, worker, models) until Ctrl-C.

    The next `swath up` goes on with its queues, buckets and runs. Requests may name local images
    and outputs in your home and the current folder, or in those that --root gives.
    """
    from deployments.up import up

    return up(console, root, fresh=fresh)


@app.command(sort_key=4)
def submit(
    request: Annotated[
        Path, Parameter(help="A file; - for standard input.", allow_leading_hyphen=True)
    ],
    /,
    *,
    wait: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="Wait until all images have ended; the exit status is that of `swath run`.",
        ),
    ] = False,
) -> int:
    """Send a request to the queue SWATH_QUEUE_URL, or to the queue of `swath up`."""
    from deployments.submit import submit

    return submit(request, console, wait=wait)


@app.command(sort_key=1, usage="Usage: swath run IMAGES... --model STR --out PATH [OPTIONS]")
def run(
    *images: Annotated[str, Parameter(help=IMAGES_HELP)],
    model: Annotated[str, Parameter(group=MODEL, help="The model's name, URL, or ONNX file.")],
    type: EndpointKind = None,  # noqa: A002 - the option's name
    parameter: ModelParameters = (),
    tiling: TilingOptions = DEFAULT_TILING,
    raster: RasterOptions = DEFAULT_RASTER,
    tile_output: Annotated[
        str | None,
        Parameter(
            group=MERGING,
            help="What the model answers about each tile as a whole: probabilities, logits, or "
            "embedding:SIZE; or a JSON object with the fields of tileOutput. Each tile is one "
            "feature, and none is merged.",
            show_default=lambda _: "by the model's description",
        ),
    ] = None,
    merging: MergingOptions = DEFAULT_MERGING,
    out: Annotated[Path, Parameter(group=RESULTS, help="Folder for the results.")],
    formats: Annotated[
        tuple[str, ...],
        Parameter(
            group=RESULTS,
            help="Formats of the files with features, separated by commas, or all.",
            show_default=lambda _: "geojson,parquet",
        ),
    ] = (),
    preview: Annotated[
        Path | None,
        Parameter(
            group=RESULTS,
            help="Write a picture of the image with its features or raster, .png or .jpg; of "
            "several images, one each, with the image's name added.",
        ),
    ] = None,
    job_id: Annotated[
        str | None,
        Parameter(
            group=RESULTS, help="Identifier of the job.", show_default=lambda _: "a random one"
        ),
    ] = None,
    max_tiles: Annotated[
        int | None,
        Parameter(
            group=RESULTS,
            help="Tiles that the model is asked for, at the most: an image with more is refused, "
            "and a job that reaches it stops with what it has.",
            show_default=lambda _: "no limit",
        ),
    ] = None,
    max_cost: Annotated[
        float | None,
        Parameter(
            group=RESULTS,
            help="What the job may cost, at the most, in the currency of SWATH_PRICES.",
            show_default=lambda _: "no limit",
        ),
    ] = None,
    fresh: Annotated[
        bool,
        Parameter(
            group=RESULTS,
            show_default=False,
            help="Ask for all tiles, also those that an earlier run into the folder was answered.",
        ),
    ] = False,
    prefect: Annotated[
        bool | None,
        Parameter(
            group=RESULTS,
            negative="--no-prefect",
            help="Run as flows on the Prefect server of PREFECT_API_URL, or else of the active "
            "profile, or else of the running `swath up`; the default if PREFECT_API_URL is set.",
        ),
    ] = None,
    json: Annotated[
        bool,
        Parameter(
            group=RESULTS, show_default=False, help="Print a JSON object for each image's outcome."
        ),
    ] = False,
) -> int:
    """Run a model over images, without a queue and without a server.

    Example: swath run june --model ships.onnx --conf 0.25 --classes ship,barge --out results

    Exit status: 0 for SUCCESS, 3 for PARTIAL, 1 for FAILED or refused, 2 for an unknown or missing
    option, 130 after Ctrl-C; of several images, that of the worst.
    """
    from deployments.run.command import run

    options = RunOptions(
        images=images,
        model=ModelOptions(model, type, parameter),
        out=out,
        tiling=tiling,
        merging=merging,
        raster=raster,
        tile_output=tile_output,
        formats=formats,
        job_id=new_job_id() if job_id is None else job_id,
        preview=preview,
        fresh=fresh,
        max_tiles=max_tiles,
        max_cost=max_cost,
    )
    return run(options, console, prefect=prefect, json=json)


@app.command(sort_key=2, usage="Usage: swath plan IMAGES... [OPTIONS]")
def plan(
    *images: Annotated[str, Parameter(help=IMAGES_HELP)],
    model: Annotated[
        str | None,
        Parameter(
            group=MODEL,
            help="The model, which gives the size of tiles and what its pixels hold if it says so; "
            "it is not called.",
        ),
    ] = None,
    type: EndpointKind = None,  # noqa: A002 - the option's name
    parameter: ModelParameters = (),
    tiling: TilingOptions = DEFAULT_TILING,
    raster: RasterOptions = DEFAULT_RASTER,
    json: Annotated[
        bool,
        Parameter(
            group=RESULTS,
            show_default=False,
            help="Print a JSON object; of several images, a list.",
        ),
    ] = False,
) -> int:
    """Estimate the cost of images before they are run: tiles, model calls, bytes, memory, money."""
    from deployments.plan import plan

    chosen = ModelOptions.if_any(model, type, parameter)
    plan(images, tiling, console, model=chosen, raster=raster, json=json)
    return 0


@app.command(sort_key=16)
def metrics(
    *,
    port: Annotated[int, Parameter(help="Port to listen on.")] = 9464,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    folder: Annotated[
        Path | None,
        Parameter(
            help="Where processes keep their metrics.",
            show_default=lambda _: "SWATH_METRICS_FOLDER",
        ),
    ] = None,
) -> int:
    """Serve the metrics of all processes of this machine to Prometheus, until Ctrl-C."""
    from deployments.metrics import serve

    return serve(folder, host, port, console)


@app.command(sort_key=5)
def schema() -> int:
    """Print the JSON Schema of the request message."""
    import json

    from tasks.request import request_schema

    print(json.dumps(request_schema(), indent=2))
    return 0


def main() -> int:
    """Run the command that the command line names; an error is printed as one line on stderr."""
    try:
        return app() or 0
    except SwathError as error:
        console.print(f"swath: {error}", soft_wrap=True)
        return EXIT_FAILED
    except ValueError as error:
        from deployments.settings_problem import settings_problem

        if not (problem := settings_problem(error)):
            raise
        console.print(f"swath: {problem}", soft_wrap=True)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of the output has ended, as that of `| head` does
        # Python flushes what it still has for it at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
