"""A model asked about tiles, as a region's run does it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from tasks.findings import Findings
from tasks.imagery import ReadTile
from tasks.inference import Endpoint
from tasks.inference.batch import Batch, infer
from tasks.inference.calls import Calls
from tasks.inference.limiter import Limiter
from tasks.roi import RegionOfInterest


def ask(
    tiles: Iterable[ReadTile],
    endpoint: Endpoint,
    *,
    attempts: int = 3,
    patience: float = 60.0,
    most: int = 8,
    roi: RegionOfInterest | None = None,
) -> Findings:
    """What a model says of tiles."""
    given = list(tiles)
    calls = Calls(
        endpoint,
        Limiter(most),
        tiles=len(given),
        most=most,
        attempts=attempts,
        patience=patience,
    )
    with closing(calls):
        batch = Batch()
        batch.fill(iter(given), calls)
        return infer(batch, roi=roi)
