"""The division of an image into regions, the same for every run that works on the same question."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import TypeAdapter, ValidationError

from tasks.grid.tiles import Region
from tasks.job.kept import Kept
from tasks.planning.plan import Plan, divide_into_regions
from tasks.planning.throughput import Throughput
from tasks.settings import settings
from tasks.storage import conditional, objects

_NAME = "division.json"
_REGIONS = TypeAdapter(list[Region])


def lasting_division(
    plan: Plan, kept: Kept, region_rows: int | None, throughput: Callable[[], Throughput]
) -> list[Region]:
    """Divide an image into regions, or find how an earlier run divided it.

    A division by an expected throughput is stored, so that a run that takes over finds the regions
    that are finished: a later estimate would give others.

    Args:
        plan: The plan of the image.
        kept: Where the answers are kept.
        region_rows: Approximate height of a region in pixels; None for the operator's setting.
        throughput: Estimates the throughput; called only if neither sets the height.

    Raises:
        PublishError: The store does not answer.
    """
    if region_rows or settings().region_size:
        return divide_into_regions(plan, region_rows, throughput)
    folder = kept.regions(plan.request).folder  # its name depends on the region of interest
    uri = objects.join(folder, _NAME)
    found = conditional.read(uri) if _NAME in objects.list_names(folder) else None
    if found and (earlier := _parse(found[0])):
        return earlier
    regions = divide_into_regions(plan, None, throughput)
    body = _REGIONS.dump_json(regions)
    if len(regions) == 1 or conditional.put_if(uri, body, found and found[1]):
        return regions
    return _parse(objects.get(uri)) or regions


def _parse(body: bytes) -> list[Region]:
    """A division from its text; empty if the text is not one."""
    try:
        return _REGIONS.validate_json(body)
    except ValidationError:
        return []
