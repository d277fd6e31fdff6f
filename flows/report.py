"""What the Prefect UI shows of an image's run when it ends: a summary and a table of regions."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks import coverage
from tasks.findings import Findings
from tasks.summary import Summary
from tasks.tiling import Grid, Region


def report(
    summary: Summary, grid: Grid, regions: Sequence[Region], found: Sequence[Findings]
) -> None:
    """Leave both on the current run."""
    create_markdown_artifact(summary.markdown(), description=summary.message)
    create_table_artifact(
        [_row(grid, *region) for region in zip(regions, found, strict=True)],
        description="Regions: pixels, tiles by state, detections before the merge",
    )


def _row(grid: Grid, region: Region, found: Findings) -> dict[str, str | int]:
    window = grid.window(region)
    return {
        "region": region.index + 1,
        "x": window.col_off,
        "y": window.row_off,
        "size": f"{window.width} × {window.height}",
        **coverage.count(found.ledger),
        "detections": len(found.detections),
    }
