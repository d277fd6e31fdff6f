"""`swath catalog`: a static STAC catalog of published results."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tasks.publish.stac_catalog import write_catalog
from tasks.storage.objects import is_s3


def catalog(place: str, console: Console) -> None:
    """Write the catalog of the results in a place, and print where it is.

    Args:
        place: `s3://bucket/prefix`, or a folder.
        console: Where messages are printed.

    Raises:
        SwathError: No result there has a STAC Item, or it cannot be read or written.
    """
    done = write_catalog(place if is_s3(place) else str(Path(place).absolute()))
    items = "1 item" if done.items == 1 else f"{done.items:,} items"
    console.print(f"{done.uri}: {items}", soft_wrap=True, highlight=False)
    if done.without:
        number = len(done.without)
        results = "1 result has" if number == 1 else f"{number:,} results have"
        console.print(
            f"{results} no STAC Item (such as job {done.without[0]}): `swath publish JOB --formats "
            "geojson,parquet,stac` publishes them with one; or repeat the `swath run` with these "
            "--formats, which asks the model for nothing anew.",
            soft_wrap=True,
            highlight=False,
        )
