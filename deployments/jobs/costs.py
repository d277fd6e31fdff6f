"""`swath cost`: what jobs used and cost, added up by job, by model, or by a tag of the message."""

from __future__ import annotations

import json as json_text
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from deployments.jobs.connection import connect
from deployments.jobs.listing import aligned
from tasks.cost.money import money_text
from tasks.cost.usage import Usage, bytes_text
from tasks.errors import RequestError
from tasks.records.record import ImageRecord, read_records
from tasks.request.field_types import is_owner, owner_of

_HEADER = ("JOBS", "IMAGES", "CALLS", "FAILED", "VCPU-SECONDS", "READ", "STORED", "COST")
_NONE = "–"


@dataclass
class _Sum:
    """What images used and cost together."""

    jobs: set[str] = field(default_factory=set)
    images: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, record: ImageRecord) -> None:
        self.jobs.add(record.job_id)
        self.images += 1
        self.usage += record.usage
        for currency, amount in record.cost.items():
            self.cost[currency] += amount

    def fields(self) -> dict[str, Any]:
        """It as `--json` prints it."""
        return {
            "jobs": len(self.jobs),
            "images": self.images,
            "usage": self.usage.model_dump(mode="json"),
            "cost": dict(self.cost),
        }

    def cells(self) -> tuple[str, ...]:
        used = self.usage
        money = " + ".join(money_text(amount, name) for name, amount in sorted(self.cost.items()))
        return (
            *(f"{each:,}" for each in (len(self.jobs), self.images)),
            *(f"{each:,}" for each in (used.calls, used.failed_calls)),
            f"{used.cpu_seconds:,.1f}",
            *(bytes_text(each) for each in (used.bytes_read, used.bytes_stored)),
            money or _NONE,
        )


def print_costs(by: str, job_id: str | None, *, json: bool) -> None:
    """Print what the recorded jobs used and cost, the most expensive first, and the sum.

    Args:
        by: `job`, `model`, or the name of a tag of the message.
        job_id: One job; None for all.
        json: Whether to print a JSON object in place of a table.

    Raises:
        RequestError: There is no record of such a job, or none has such a tag.
        PublishError: The records cannot be read.
    """
    connect()  # the records of a running `swath up` are in its own work store
    records = read_records(job_id)
    if job_id is not None and not records:
        raise RequestError(
            f"{job_id}: there is no record of it; `swath jobs` lists those that there are."
        )
    groups: dict[str, _Sum] = defaultdict(_Sum)
    whole = _Sum()
    for record in records:
        groups[_key(record, by)].add(record)
        whole.add(record)
    if records and groups.keys() == {_NONE}:
        raise RequestError(f"--by: no job has a tag {by!r}; give {_known(records)}.")
    ordered = sorted(groups.items(), key=lambda each: (-_weight(each[1]), each[0]))
    if json:
        sums = {name: each.fields() for name, each in ordered}
        print(json_text.dumps({"by": by, "sums": sums, "total": whole.fields()}))
        return
    rows = [(by.upper(), *_HEADER), *((name, *each.cells()) for name, each in ordered)]
    print("\n".join(aligned([*rows, ("total", *whole.cells())])))


def _key(record: ImageRecord, by: str) -> str:
    """The group of a record."""
    if by == "job":
        return record.job_id
    if by == "model":
        return str(record.request.get("imageProcessor", {}).get("name", _NONE))
    tags = record.request.get("tags", {})
    found = owner_of(tags) if is_owner(by) else tags.get(by)
    return _NONE if found is None else str(found)


def _known(records: Iterable[ImageRecord]) -> str:
    names = sorted({name for record in records for name in record.request.get("tags", {})})
    return " or ".join(["job", "model", *map(repr, names)])


def _weight(each: _Sum) -> float:
    """What the most expensive is found by: money, or else calls."""
    return sum(each.cost.values()) or float(each.usage.calls)
