"""What a page says in words: the run, the image, the tiles."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tasks.cost.money import Cost
from tasks.cost.usage import Usage
from tasks.imagery import Image
from tasks.publish.page.pixel_sizes import pixel_sizes
from tasks.publish.provenance import Provenance
from tasks.request import Request
from tasks.results import coverage
from tasks.results.coverage import TileState
from tasks.results.shares import percent

_MAX_REASONS = 20


def facts(
    provenance: Provenance,
    ledger: pa.Table,
    image: Image | None,
    request: Request | None,
    *,
    usage: Usage | None = None,
    cost: Cost | None = None,
) -> dict[str, Any]:
    """The facts of a run: what the page names, and rows of a label and a text.

    Args:
        provenance: Of the results.
        ledger: Table of `coverage.MEASURED`.
        image: The image; None if it cannot be opened any more.
        request: The message; None if it is not known any more.
        usage: What the run used; None if it is not known.
        cost: What that costs; None without prices.
    """
    made, failed = coverage.calls(ledger)
    left_out = _counted(ledger)
    tiles = ", ".join(f"{n:,} {state}" for state, n in provenance.tiles.items() if n)
    rows = [
        ("Status", provenance.status),
        ("Area covered", percent(provenance.covered)),
        ("Started", provenance.time.replace("T", " ").replace("Z", " UTC")),
        ("Job", provenance.job),
        *(_of_request(request) if request else ()),
        ("Tiles", tiles or "none"),
        ("Model calls", f"{made:,}" + (f", of which {failed:,} failed" if failed else "")),
        *([("Used by the run", usage.text)] if usage else ()),
        *([("Cost of the run", cost.text)] if cost else ()),
        *left_out,
        ("Image", provenance.image),
        *(_of_image(image) if image else ()),
        ("Version of the image", provenance.etag),
        ("Request", f"SHA-256 {provenance.request}"),
        ("Swath", provenance.version),
    ]
    return {
        "image": provenance.image,
        "job": provenance.job,
        "status": provenance.status,
        "covered": percent(provenance.covered),
        "tiles": {state.value: provenance.tiles.get(state.value, 0) for state in TileState},
        "rows": rows,
        "left_out": left_out,
        "reasons": coverage.reasons(ledger)[:_MAX_REASONS],
        "pixelSizes": pixel_sizes(image) if image else [],
        "rejections": coverage.rejections(ledger)[:_MAX_REASONS],
    }


def _of_request(request: Request) -> list[tuple[str, str]]:
    name, kind = request.image_processor.name, request.image_processor.type.value
    cut = f"{request.tile_size:,} px with at least {request.tile_overlap:,} px of overlap"
    return [("Model", f"{name} ({kind})"), ("Tile size", cut)]


def _of_image(image: Image) -> list[tuple[str, str]]:
    bands = "1 band" if image.bands == 1 else f"{image.bands} bands"
    placed = "georeferenced" if image.georeference else "without a georeference: places are pixels"
    return [
        ("Image size", f"{image.width:,} × {image.height:,} px, {bands} of {image.dtype}, {placed}")
    ]


def _counted(ledger: pa.Table) -> list[tuple[str, str]]:
    """The features that were left out, as far as there are any."""
    left_out = {
        "Invalid features left out": coverage.rejected(ledger),
        "Filtered by class or score": coverage.filtered(ledger),
        "Dropped where there is no data": coverage.without_data(ledger),
    }
    return [(label, f"{number:,}") for label, number in left_out.items() if number]
