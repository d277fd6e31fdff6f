"""The summary of an image's run: counts, status, and the text for users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from tasks.cost.money import Cost, cost_of
from tasks.cost.usage import Usage
from tasks.errors import SwathError
from tasks.imagery import Georeference
from tasks.reporting.failures import FailedOutput, FailedTile, located
from tasks.reporting.raster_summary import RasterSummary
from tasks.reporting.status import JobStatus
from tasks.results import coverage
from tasks.results.coverage import TileState
from tasks.results.shares import percent

MAX_REASONS = 10
"""Reasons of failure of which tiles are listed in a summary."""

WHY = "most often because: "
"""What the outcome in one line has before the most frequent reason."""

_MAX_TILES = 3  # listed for each reason


class Summary(BaseModel):
    """The outcome of an image's run.

    Attributes:
        job_id: The request's.
        image: URL of the image.
        status: SUCCESS, PARTIAL or FAILED.
        features: Number of features published.
        classes: Number of features of each class, the most frequent first.
        seconds: From the start of the job to its publication; None if not known.
        calls: Number of calls of the model.
        failed_calls: Number of those that failed, repeated ones included.
        tiles: Number of tiles in each state.
        shares: Share (0 to 1) of the region of interest in each state, by the tiles' cells.
        rejected: Number of features that broke the model's contract and were left out.
        rejections: Reasons for that with the number of tiles, most frequent first; of each tile,
            only the reason for its first such feature counts.
        reasons: Reasons why tiles failed with the number of tiles, most frequent first.
        failed: The first three tiles that failed for each of the ten most frequent reasons.
        outputs: URI of each file and stream by its name, as `tasks.publish.Published.uris`.
        failed_outputs: Outputs and formats that failed, if others did not.
        repaired: Number of published features whose geometry was invalid and was repaired.
        filtered: Number of the model's detections that were dropped before the merge, for their
            class or their score.
        no_data: What decides which pixels hold no data, such as "nodata 0", "alpha: band 4" or
            "mask"; None if nothing does.
        blank: What decided that tiles are blank with the number of tiles, most frequent first.
        warnings: What is doubtful about the image, with the remedy.
        without_data: Number of the model's features that lay wholly where the image holds no data,
            and were dropped.
        raster: The raster, if the model answers with pixels.
        prepared: What was done to tiles before they were sent, in words; empty for nothing.
        usage: What the run used: unlike `calls`, without those for answers that were kept.
        cost: What that costs; None without prices.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    image: str
    status: JobStatus
    features: int
    classes: dict[str, int] = {}
    seconds: float | None = None
    calls: int = 0
    failed_calls: int = 0
    tiles: dict[str, int]
    shares: dict[str, float]
    rejected: int
    rejections: list[tuple[str, int]] = []
    reasons: list[tuple[str, int]]
    failed: list[FailedTile] = []
    outputs: dict[str, str]
    failed_outputs: list[FailedOutput] = []
    repaired: int = 0
    filtered: int = 0
    no_data: str | None = None
    blank: list[tuple[str, int]] = []
    warnings: list[str] = []
    without_data: int = 0
    raster: RasterSummary | None = None
    prepared: str = ""
    usage: Usage = Usage()
    cost: Cost | None = None

    @property
    def covered(self) -> float:
        """Share of the region of interest that did not fail: 1 if no tile failed."""
        return 1 - self.shares[TileState.FAILED]

    @property
    def message(self) -> str:
        """The outcome in one line."""
        parts = [self.found, f"{percent(self.covered)} of the area covered"]
        parts += [output.text.rstrip(".") for output in self.failed_outputs]
        if self.failed_outputs:
            parts.append(self.remedy)
        if self.raster and self.raster.nodata:
            parts.append(self.raster.nodata_text)
        if self.reasons:
            parts.append(f"{self.failed_text}, {WHY}{self.reasons[0][0]}")
        if self.rejected:
            parts.append(f"{self.rejected} invalid features left out")
        if self.rejections:
            parts[-1] += f", {WHY}{self.rejections[0][0]}"
        if self.filtered:
            parts.append(f"{self.filtered} detections filtered out by class or score")
        if self.without_data:
            parts.append(self.without_data_text)
        if self.repaired:
            parts.append(f"{self.repaired} invalid geometries repaired")
        tiles = ", ".join(
            f"{number} {state}{self.blank_text if state == TileState.BLANK else ''}"
            for state, number in self.tiles.items()
        )
        parts.append(f"tiles: {tiles}")
        if self.prepared:
            parts.append(f"sent: {self.prepared}")
        return "; ".join([*parts, *self._costs, *self.warnings])

    @property
    def _costs(self) -> list[str]:
        return [f"cost: {self.cost.text}"] if self.cost else []

    @property
    def used(self) -> str:
        """What the run used, and what that costs, in one line."""
        if self.cost is None:
            return self.usage.text
        parts = f" ({self.cost.parts_text})" if self.cost.total else ""
        return f"{self.usage.text}; {self.cost.text}{parts}"

    @property
    def remedy(self) -> str:
        """How outputs and formats that failed are published."""
        return f"`swath publish {self.job_id}` publishes that alone, without calling the model"

    @property
    def blank_text(self) -> str:
        """What decided that tiles are blank, in brackets; empty if none is."""
        rules = ", ".join(rule for rule, _ in self.blank)
        return f" ({rules})" if rules else ""

    @property
    def without_data_text(self) -> str:
        """How many features were dropped, and by which rule."""
        features = "1 feature" if self.without_data == 1 else f"{self.without_data:,} features"
        rule = f" ({self.no_data})" if self.no_data else ""
        return f"{features} dropped where there is no data{rule}"

    @property
    def found(self) -> str:
        """What was published: the number of features, or the raster."""
        features = "1 feature" if self.features == 1 else f"{self.features:,} features"
        if self.raster is None:
            return features
        return f"{self.raster.text}; {features}" if self.features else self.raster.text

    @property
    def failed_text(self) -> str:
        """How much of the area failed, in how many tiles."""
        number = self.tiles[TileState.FAILED]
        tiles = "1 tile" if number == 1 else f"{number} tiles"
        return f"{percent(self.shares[TileState.FAILED])} failed in {tiles}"


class IncompleteJobError(SwathError):
    """A job ended without SUCCESS: some of its tiles or outputs failed (PARTIAL), or all (FAILED).

    Attributes:
        summary: The outcome of the image's run.
    """

    def __init__(self, summary: Summary) -> None:
        super().__init__(summary)  # so that Prefect can store it as a result and read it again
        self.summary = summary

    def __str__(self) -> str:
        """The outcome in one line."""
        return self.summary.message


def summarise(
    ledger: pa.Table,
    *,
    job_id: str,
    image: str,
    status: JobStatus,
    features: int,
    outputs: dict[str, str],
    classes: Mapping[str, int] | None = None,
    repaired: int = 0,
    failed_outputs: Sequence[FailedOutput] = (),
    usage: Usage | None = None,
    model: Sequence[str] = (),
    georeference: Georeference | None = None,
    raster: RasterSummary | None = None,
    views: int = 1,
    prepared: str = "",
    no_data: str | None = None,
    warnings: Sequence[str] = (),
) -> Summary:
    """Summarise an image's run from its ledger.

    Args:
        ledger: Table of `coverage.MEASURED` with all tiles of the image.
        job_id: The request's.
        image: URL of the image.
        status: As `status_of` returns it.
        features: Number of features published.
        outputs: URI of each file and stream by its name.
        classes: Number of features of each class.
        repaired: Number of those features whose geometry was repaired.
        failed_outputs: Outputs and formats that failed.
        usage: What was used, and the seconds to the publication; None if an earlier run published.
        model: The names of the model, as in `cost_of`.
        georeference: The image's, to say where failed tiles are; or None.
        raster: The raster, if the model answers with pixels.
        views: How often the model was asked for each tile.
        prepared: What was done to tiles before they were sent, in words; empty for nothing.
        no_data: As `Image.no_data`.
        warnings: What is doubtful about the image.
    """
    calls, failed_calls = coverage.calls(ledger, views)
    used = usage or Usage()
    return Summary(
        job_id=job_id,
        image=image,
        status=status,
        features=features,
        classes=dict(classes or {}),
        seconds=usage and usage.seconds,
        calls=calls,
        failed_calls=failed_calls,
        tiles=coverage.count(ledger),
        shares=coverage.shares(ledger),
        rejected=coverage.rejected(ledger),
        rejections=coverage.rejections(ledger),
        reasons=coverage.reasons(ledger),
        failed=located(coverage.failures(ledger, MAX_REASONS, _MAX_TILES), georeference),
        outputs=outputs,
        failed_outputs=list(failed_outputs),
        repaired=repaired,
        filtered=coverage.filtered(ledger),
        no_data=no_data,
        blank=coverage.blank_reasons(ledger),
        warnings=list(warnings),
        without_data=coverage.without_data(ledger),
        raster=raster,
        prepared=prepared,
        usage=used,
        cost=cost_of(used, model),
    )


def status_of(tiles: Mapping[str, int], *, all_rejected: bool = False) -> JobStatus:
    """The status of a job.

    Args:
        tiles: Number of tiles in each state.
        all_rejected: Whether the model returned features and all of them were left out, because
            they broke the contract.

    Returns:
        SUCCESS if no tile failed and not all features were left out; FAILED if a tile failed and
        none was inferred; otherwise PARTIAL.
    """
    if not tiles[TileState.FAILED]:
        return JobStatus.PARTIAL if all_rejected else JobStatus.SUCCESS
    return JobStatus.PARTIAL if tiles[TileState.INFERRED] else JobStatus.FAILED
