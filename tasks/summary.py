"""What became of an image: the counts, the status, and the words for people."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from tasks.coverage import TileState
from tasks.status import JobStatus

_REASONS = 10  # that a page shows


class Summary(BaseModel):
    """The outcome of one image's run.

    Attributes:
        job_id: The request's.
        image: URL of the image.
        status: SUCCESS, PARTIAL or FAILED.
        features: Features published.
        tiles: Tiles in each state.
        rejected: Features of the model that broke the contract and were left out.
        rejections: Why, by the first of each tile, most frequent first, with the number of tiles.
        reasons: Why tiles failed, likewise.
        outputs: Where each kind of result is.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    image: str
    status: JobStatus
    features: int
    tiles: dict[str, int]
    rejected: int
    rejections: list[tuple[str, int]] = []
    reasons: list[tuple[str, int]]
    outputs: dict[str, str]

    @property
    def message(self) -> str:
        """The outcome in one line."""
        tiles = ", ".join(f"{number} {state}" for state, number in self.tiles.items())
        left_out = f"; {self.rejected} broken features left out" if self.rejected else ""
        if self.rejections:
            left_out += f", most often because: {self.rejections[0][0]}"
        why = f"; tiles failed most often because: {self.reasons[0][0]}" if self.reasons else ""
        return f"{self.features} features; tiles: {tiles}{left_out}{why}"

    def markdown(self) -> str:
        """The outcome as a page for the Prefect UI."""
        lines = [
            f"# {self.status}: {self.image.rsplit('/', 1)[-1]} · {self.job_id}",
            f"**{self.features} features** in `{self.image}`",
            "",
            "| tiles | |",
            "| --- | ---: |",
            *(f"| {state} | {number} |" for state, number in self.tiles.items()),
            "",
            *(f"- {name}: [{uri}]({uri})" for name, uri in self.outputs.items()),
        ]
        if self.rejected:
            lines += ["", f"{self.rejected} features broke the model's contract and were left out."]
            lines += [f"- {number} × {why}" for why, number in self.rejections[:_REASONS]]
        if self.reasons:
            lines += ["", "## Why tiles failed", ""]
            lines += [f"- {number} × {reason}" for reason, number in self.reasons[:_REASONS]]
        return "\n".join(lines)


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
