"""`swath jobs`: the jobs that there are, the last that changed first."""

from __future__ import annotations

import json as json_text
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import compress

from rich.console import Console

from deployments.jobs.connection import connect_or_say
from deployments.jobs.reading import Job, read_jobs
from deployments.jobs.screen import View, show

_HEADER = ("JOB", "IMAGES", "STATUS", "DONE", "FEATURES", "FAILED TILES", "CHANGED (UTC)")
_MORE = ("OWNER", "PRIORITY", "WAITS")  # columns that are shown if a job has something in them


def list_jobs(
    console: Console,
    *,
    statuses: Sequence[str] = (),
    limit: int = 20,
    json: bool = False,
    watch: bool = False,
) -> None:
    """Print a table of jobs.

    Args:
        console: Where messages are printed.
        statuses: Only jobs with one of these statuses; all if empty.
        limit: Number of jobs, at most.
        json: Whether to print a list of JSON objects instead.
        watch: Whether to go on until Ctrl-C.

    Raises:
        SwathError: Neither Prefect nor the records can be read.
    """
    look = partial(_look, console, connect_or_say(console), statuses, limit, json=json)
    show(look, watch=watch)


def _look(console: Console, live: bool, statuses: Sequence[str], limit: int, *, json: bool) -> View:
    jobs = read_jobs(console, live=live)
    chosen = [job for job in jobs if not statuses or job.status in statuses][:limit]
    if json:
        return View(json_text.dumps([_fields(job) for job in chosen]), ended=False)
    if not chosen:
        return View("There are no such jobs." if jobs else "There are no jobs.", ended=False)
    more = [_more(job) for job in chosen]
    shown = [any(column) for column in zip(*more, strict=True)]
    rows = [(*_row(job), *compress(cells, shown)) for job, cells in zip(chosen, more, strict=True)]
    return View("\n".join(aligned([(*_HEADER, *compress(_MORE, shown)), *rows])), ended=False)


def _fields(job: Job) -> dict[str, object]:
    """A job as `--json` prints it."""
    return {
        "job_id": job.job_id,
        "images": len(job.images),
        "status": job.status,
        "done": job.done,
        "features": job.features,
        "failed": job.failed,
        "updated": job.updated.isoformat() if job.updated else None,
        "owner": job.owner,
        "priority": job.priority,
        "waits": job.waits,
    }


def _row(job: Job) -> tuple[str, ...]:
    numbers = ("–" if each is None else str(each) for each in (job.features, job.failed))
    return (
        job.job_id,
        str(len(job.images)),
        job.status,
        f"{int(100 * job.done)} %",
        *numbers,
        _when(job.updated),
    )


def _more(job: Job) -> tuple[str, ...]:
    """The cells of a job below `_MORE`."""
    return (job.owner, str(job.priority or ""), job.waits.removeprefix("waits "))


def _when(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if moment else "–"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines in which columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
