"""What the Prefect UI shows of an image's run when it ends: its coverage and a table of regions."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks import coverage
from tasks.summary import Summary
from tasks.tiling import Region


def report(summary: Summary, regions: Sequence[Region], ledgers: Sequence[pa.Table]) -> None:
    """Leave both on the current run."""
    create_markdown_artifact(summary.markdown(), description=summary.message)
    create_table_artifact(
        [_row(*region) for region in zip(regions, ledgers, strict=True)],
        description="Regions: tiles by state, detections before the merge",
    )


def _row(region: Region, ledger: pa.Table) -> dict[str, str | int]:
    return {
        "region": region.name,
        **coverage.count(ledger),
        "detections": coverage.detections(ledger),
    }
