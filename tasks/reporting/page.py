"""The summary of an image's run as a Markdown page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tasks.reporting.failures import FailedTile
from tasks.reporting.links import console_url
from tasks.reporting.summary import MAX_REASONS, Summary
from tasks.request.locations import file_name
from tasks.results.coverage import TileState
from tasks.results.shares import percent

_MAX_CLASSES = 20
_MARKUP = re.compile(r"([\\`*_\[\]<>|~])")


def summary_page(summary: Summary, picture_url: str | None, startup: str) -> str:
    """The page of a summary.

    Args:
        summary: The outcome.
        picture_url: Address of a picture of the image with its results, or None.
        startup: How long the start of the run took, in one line; or an empty text.
    """
    image = plain(file_name(summary.image))
    picture = [f"![{image} with its results]({picture_url})", ""] if picture_url else []
    return "\n".join(
        [
            *picture,
            f"# {summary.status}: {image}, {plain(summary.job_id)}",
            "",
            *_facts(summary),
            *_left_out(summary),
            *_failures(summary),
            *(["", f"Start-up: {startup}"] if startup else []),
        ]
    )


def duration(seconds: float) -> str:
    """Seconds as text, with the two greatest units."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, also in a table."""
    return _MARKUP.sub(r"\\\1", text)


def _facts(summary: Summary) -> Iterator[str]:
    """What became of the image, as a table without heads."""
    yield "| | |"
    yield "| --- | --- |"
    yield f"| status | **{summary.status}** |"
    yield f"| area covered | {percent(summary.covered)} |"
    if summary.raster is not None:
        yield f"| contents | {plain(summary.raster.text.removeprefix('raster of '))} |"
        if nodata := summary.raster.nodata_text:
            yield f"| without an answer | {nodata.replace(' without an answer', '')} |"
    if summary.raster is None or summary.features:
        yield f"| features | {_features(summary)} |"
    if summary.seconds is not None:
        yield f"| duration | {duration(summary.seconds)} |"
    yield f"| tiles | {_tiles(summary)} |"
    yield f"| model calls | {summary.calls:,}, {summary.failed_calls:,} failed |"
    yield f"| used by this run | {summary.usage.text} |"
    if summary.cost:
        parts = f": {plain(summary.cost.parts_text)}" if summary.cost.total else ""
        yield f"| cost of this run | {plain(summary.cost.text)}{parts} |"
    if summary.prepared:
        yield f"| sent | {plain(summary.prepared)} |"
    yield f"| image | {_place(summary.image)} |"
    for name, uri in summary.outputs.items():
        yield f"| {name} | {_place(uri)} |"
    for output in summary.failed_outputs:
        yield f"| {output.name} | **not published**: {_cell(output.reason)} |"
    if summary.failed_outputs:
        yield f"| remedy | {plain(summary.remedy)} |"


def _features(summary: Summary) -> str:
    classes = list(summary.classes.items())
    counts = [f"{plain(name)} {number:,}" for name, number in classes[:_MAX_CLASSES]]
    if others := classes[_MAX_CLASSES:]:
        counts.append(f"{len(others)} more classes {sum(number for _, number in others):,}")
    return f"{summary.features:,}" + (f": {', '.join(counts)}" if counts else "")


def _tiles(summary: Summary) -> str:
    states = [
        f"{number:,} {state}{plain(summary.blank_text) if state == TileState.BLANK else ''}"
        for state, number in summary.tiles.items()
        if number
    ]
    text = f"{sum(summary.tiles.values()):,}: {', '.join(states)}"
    asked = summary.tiles[TileState.INFERRED] + summary.tiles[TileState.FAILED]
    if asked and summary.seconds:
        text += f"; {asked / summary.seconds:,.1f} a second over the whole run"
    return text


def _place(uri: str) -> str:
    """A link to the AWS console, or the text of a place that a browser cannot open."""
    url = console_url(uri)
    return _cell(uri) if url is None else f"[{plain(uri)}]({url})"


def _cell(text: str) -> str:
    """Text as code in a table, which ends its cell at a vertical bar, even in code."""
    return _verbatim(text.replace("|", r"\|"))


def _verbatim(text: str) -> str:
    """Text as code: an address in it, such as that of a model, does not become a link."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _left_out(summary: Summary) -> Iterator[str]:
    """How many features were left out or changed, and why."""
    for warning in summary.warnings:
        yield ""
        yield f"**Warning**: {plain(warning)}."
    if summary.filtered:
        yield ""
        yield f"{summary.filtered:,} detections were filtered out by class or score."
    if summary.without_data:
        yield ""
        yield f"{summary.without_data_text}."
    if summary.rejected:
        yield ""
        yield f"{summary.rejected:,} features broke the model's contract and were left out."
        yield ""
        for reason, tiles in summary.rejections[:MAX_REASONS]:
            yield f"- {_count(tiles)}: {_verbatim(reason)}"
    if summary.repaired:
        yield ""
        yield f"{summary.repaired:,} features had an invalid geometry, which was repaired."


def _failures(summary: Summary) -> Iterator[str]:
    """The failed tiles by reason, with the places of the first ones."""
    if not summary.reasons:
        return
    yield from ("", "## Failed tiles", "", f"{summary.failed_text}.")
    for reason, tiles in summary.reasons[:MAX_REASONS]:
        yield from ("", f"**{_count(tiles)}:** {_verbatim(reason)}", "")
        listed = [tile for tile in summary.failed if tile.reason == reason]
        located = any(tile.longitude is not None for tile in listed)
        heads = ["tile", "columns (px)", "rows (px)"] + ["longitude, latitude"] * located
        yield f"| {' | '.join(heads)} |"
        yield f"|{' --- |' * len(heads)}"
        for tile in listed:
            yield f"| {' | '.join(_cells(tile)[: len(heads)])} |"
        if tiles > len(listed):
            yield ""
            yield f"and {tiles - len(listed):,} more."
    if len(summary.reasons) > MAX_REASONS:
        yield ""
        yield f"And {len(summary.reasons) - MAX_REASONS:,} other reasons."
    yield from ("", "The coverage file lists every tile with its state and reason.")


def _cells(tile: FailedTile) -> list[str]:
    place = "not known"
    if tile.longitude is not None and tile.latitude is not None:
        place = f"{tile.longitude:.5f}, {tile.latitude:.5f}"
    return [
        str(tile.tile),
        f"{tile.x} to {tile.x + tile.width - 1}",
        f"{tile.y} to {tile.y + tile.height - 1}",
        place,
    ]


def _count(tiles: int) -> str:
    return f"{tiles:,} tile{'' if tiles == 1 else 's'}"
