"""The commands `swath models`: describe an ONNX file, list or serve the built-in models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from deployments.console import console
from tasks.errors import StackError

models = App(
    name="models",
    sort_key=3,
    help="Models: describe an ONNX file; list or serve the built-in ones.",
)


@models.default
@models.command(name="list")
def list_models() -> int:
    """List the built-in test models, and what else may be a model."""
    from deployments.models import list_models

    list_models()
    return 0


@models.command
def describe(
    model: Annotated[str, Parameter(help="An ONNX file: a path, or s3://bucket/key.")],
    *,
    out: Annotated[
        str | None,
        Parameter(
            help="File for the description; - for standard output; else beside the model.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    class_names: Annotated[
        Path | None,
        Parameter(help="Text file with the name of each class on a line, in the model's order."),
    ] = None,
    force: Annotated[bool, Parameter(negative=(), help="Overwrite the file.")] = False,
) -> int:
    """Write the description of an ONNX model, and say what is left to fill in.

    An export of Ultralytics describes itself: a description is written only if --out is given.
    """
    from deployments.describe import describe

    return describe(model, out, console, force=force, class_names=class_names)


@models.command
def serve(
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on.")] = 8080,
) -> int:
    """Serve the built-in models over HTTP: POST a tile to /MODEL/invocations."""
    from deployments.model_server import serve

    try:
        serve(host, port, ready=lambda url: print(f"POST tiles to {url}/MODEL/invocations"))
    except OSError as error:
        raise StackError(f"--port {port}: {error}") from error
    return 0
