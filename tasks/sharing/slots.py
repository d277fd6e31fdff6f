"""How many slots of a limit a region wants, so that it changes its number seldom."""

from __future__ import annotations

_STEP = 8  # a step is the limit divided by this


def wanted_slots(demand: int, wanted: int, taken: int, limit: int) -> int:
    """Slots that a region wants of a limit that it shares with regions it leaves enough to.

    Each change takes several requests to Prefect. So while half of the slots are free, a region
    whose demand rises wants an eighth of them at a time; and as long as a quarter is free it wants
    no fewer than before. The two bounds differ, and a region whose demand is met takes no step:
    else regions that take one together would give it back together, again and again.

    Args:
        demand: Calls that the region could have in flight at a time.
        wanted: Slots that it has wanted so far.
        taken: Slots that all regions hold.
        limit: Slots that there are.
    """
    if demand > wanted and 2 * taken <= limit:
        step = max(1, limit // _STEP)
        return -(-demand // step) * step
    return max(wanted, demand) if 4 * taken <= 3 * limit else demand
