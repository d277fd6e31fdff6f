"""What became of an image: the counts, the status, and the words for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from tasks.errors import SwathError
from tasks.reporting.status import JobStatus
from tasks.results import coverage
from tasks.results.coverage import TileState

_MOST = 10  # reasons, and failed tiles, that a page shows


class FailedTile(BaseModel):
    """A tile that failed.

    Attributes:
        tile: Place in the grid, row by row, from 0.
        x: First pixel of the full image that it covers, in x.
        y: The same in y.
        width: Pixels that it covers in x.
        height: The same in y.
        reason: Why it failed.
    """

    model_config = ConfigDict(frozen=True)

    tile: int
    x: int
    y: int
    width: int
    height: int
    reason: str

    @property
    def text(self) -> str:
        """Where it is, and why it failed."""
        return f"tile {self.tile} at {self.x},{self.y} {self.width}×{self.height}: {self.reason}"


class Summary(BaseModel):
    """The outcome of one image's run.

    Attributes:
        job_id: The request's.
        image: URL of the image.
        status: SUCCESS, PARTIAL or FAILED.
        features: Features published.
        tiles: Tiles in each state.
        shares: Share of the area asked for in each state; each tile answers for its own cell.
        rejected: Features of the model that broke the contract and were left out.
        rejections: Why, by the first of each tile, most frequent first, with the number of tiles.
        reasons: Why tiles failed, likewise.
        failed: The first tiles that failed.
        outputs: Where each kind of result is.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    image: str
    status: JobStatus
    features: int
    tiles: dict[str, int]
    shares: dict[str, float]
    rejected: int
    rejections: list[tuple[str, int]] = []
    reasons: list[tuple[str, int]]
    failed: list[FailedTile] = []
    outputs: dict[str, str]

    @property
    def covered(self) -> float:
        """Share of the area asked for that was looked at: 1 where no area failed."""
        return 1 - self.shares[TileState.FAILED]

    @property
    def message(self) -> str:
        """The outcome in one line."""
        told = [f"{self.features} features", f"{_percent(self.covered)} of the area covered"]
        if self.reasons:
            why = f"most often because: {self.reasons[0][0]}"
            told.append(f"{self._failed_text}, {why}")
        if self.rejected:
            told.append(f"{self.rejected} broken features left out")
        if self.rejections:
            told[-1] += f", most often because: {self.rejections[0][0]}"
        tiles = ", ".join(f"{number} {state}" for state, number in self.tiles.items())
        return "; ".join([*told, f"tiles: {tiles}"])

    def markdown(self) -> str:
        """The outcome as a page for the Prefect UI."""
        lines = [
            f"# {self.status}: {self.image.rsplit('/', 1)[-1]} · {self.job_id}",
            f"**{self.features} features** in `{self.image}`",
            "",
            f"**{_percent(self.covered)} of the area covered**",
            "",
            "| state | tiles | share of the area |",
            "| --- | ---: | ---: |",
            *(
                f"| {state} | {number} | {_percent(self.shares[state])} |"
                for state, number in self.tiles.items()
            ),
            "",
            *(f"- {name}: [{uri}]({uri})" for name, uri in self.outputs.items()),
        ]
        if self.rejected:
            lines += ["", f"{self.rejected} features broke the model's contract and were left out."]
            lines += _listed(self.rejections)
        if self.reasons:
            lines += ["", "## Why tiles failed", "", f"{self._failed_text}.", ""]
            lines += _listed(self.reasons)
            lines += ["", "The first of them:", "", *(f"- {tile.text}" for tile in self.failed)]
        return "\n".join(lines)

    @property
    def _failed_text(self) -> str:
        number = self.tiles[TileState.FAILED]
        tiles = "1 tile" if number == 1 else f"{number} tiles"
        return f"{_percent(self.shares[TileState.FAILED])} failed in {tiles}"


class JobFailedError(SwathError):
    """Every tile that was asked about failed.

    Attributes:
        summary: What came of the job.
    """

    def __init__(self, message: str, summary: Summary) -> None:
        super().__init__(message)
        self.summary = summary


def summarise(
    ledger: pa.Table,
    *,
    job_id: str,
    image: str,
    status: JobStatus,
    features: int,
    outputs: dict[str, str],
) -> Summary:
    """The outcome that an image's ledger tells.

    Args:
        ledger: Table of `coverage.MEASURED`, the whole image's.
        job_id: The request's.
        image: URL of the image.
        status: As `status_of` gives it.
        features: Features published.
        outputs: Where each kind of result is.
    """
    return Summary(
        job_id=job_id,
        image=image,
        status=status,
        features=features,
        tiles=coverage.count(ledger),
        shares=coverage.shares(ledger),
        rejected=coverage.rejected(ledger),
        rejections=coverage.rejections(ledger),
        reasons=coverage.reasons(ledger),
        failed=[FailedTile.model_validate(line) for line in coverage.failures(ledger, _MOST)],
        outputs=outputs,
    )


def status_of(tiles: Mapping[str, int], *, all_rejected: bool = False) -> JobStatus:
    """What the counts make of a job.

    Args:
        tiles: Tiles in each state.
        all_rejected: Whether the model gave features, and every one of them was broken.

    Returns:
        SUCCESS where no tile failed and not all features were lost, FAILED where a tile failed and
        none was inferred, else PARTIAL.
    """
    if not tiles[TileState.FAILED]:
        return JobStatus.PARTIAL if all_rejected else JobStatus.SUCCESS
    return JobStatus.PARTIAL if tiles[TileState.INFERRED] else JobStatus.FAILED


def _percent(share: float) -> str:
    """A share in words that call nothing whole, or nothing, which is not."""
    if 0 < share < 0.001:
        return "less than 0.1 %"
    if 0.999 < share < 1:
        return "more than 99.9 %"
    return f"{share:.0%}".replace("%", " %") if share in (0, 1) else f"{100 * share:.1f} %"


def _listed(reasons: Sequence[tuple[str, int]]) -> list[str]:
    return [f"- {number} × {why}" for why, number in reasons[:_MOST]]
