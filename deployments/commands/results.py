"""Commands on published results: `swath view` and `swath catalog`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from deployments.console import console

results = App(name="results-commands")


@results.command(sort_key=3, usage="Usage: swath view RESULT [OPTIONS]")
def view(
    result: Annotated[
        str,
        Parameter(
            help="A folder or s3:// prefix with the results of an image, or one of their files."
        ),
    ],
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(help="Write the page to this file, and open no browser.", show_default=False),
    ] = None,
) -> int:
    """Open the page of an image's results in a browser; made from the files if there is none."""
    from deployments.view import view

    return view(result, console, out=out)


@results.command(sort_key=15)
def catalog(
    place: Annotated[str, Parameter(help="s3://bucket/prefix, or a folder of results.")], /
) -> int:
    """Write a static STAC catalog of all results under a prefix or in a folder: catalog.json.

    It links the STAC Items of results that were published with the format stac.
    """
    from deployments.catalog import catalog

    catalog(place, console)
    return 0
