"""Weighted max-min fair shares of a whole number, such as the calls that a model takes at once."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from uuid import UUID

_UNIT = 1024  # weight of priority 0; the lowest priority has the weight 1

Quota = Callable[[str], int | None]
"""What an owner may have at most; None without a quota."""


def weight_of(priority: int) -> int:
    """The weight of a job in shares: ten points of priority double it.

    A whole number, so that every process computes the same shares.
    """
    return round(_UNIT * math.pow(2.0, priority / 10))


@dataclass(frozen=True)
class Claim:
    """The calls that one region wants to make to an endpoint.

    Attributes:
        region: The region's flow run.
        image: The flow run of its image.
        wanted: Calls that it could have in flight at a time.
        owner: Who shares with the other owners; empty for jobs without an owner, which share as
            one.
        priority: That of the image's job.
    """

    region: UUID
    image: UUID
    wanted: int
    owner: str = ""
    priority: int = 0


def fair_shares(limit: int, claims: Sequence[Claim], quota: Quota) -> dict[UUID, int]:
    """Share out the slots of a limit: between owners, then their images, then their regions.

    Each of the three divisions is max-min fair. Images are weighted by their priority, and owners
    by the highest priority of their images. No region gets more than it wants and no owner more
    than its quota, and slots that some do not want go to the others. Slots are whole numbers, so
    the earlier of two equal claims may have one more. The result is the same in every process that
    computes it.

    Args:
        limit: Slots to share out.
        claims: Of all running regions, the earliest first.
        quota: Slots that an owner may have.

    Returns:
        Slots by the region's flow run.
    """
    owners: dict[str, dict[UUID, list[Claim]]] = {}
    for claim in claims:
        owners.setdefault(claim.owner, {}).setdefault(claim.image, []).append(claim)
    shares: dict[UUID, int] = {}
    for images, total in zip(owners.values(), _of_owners(limit, owners, quota), strict=True):
        demands = [sum(claim.wanted for claim in regions) for regions in images.values()]
        weights = [weight_of(regions[0].priority) for regions in images.values()]
        for regions, part in zip(images.values(), divide(total, demands, weights), strict=True):
            parts = divide(part, [claim.wanted for claim in regions])
            shares |= dict(zip((claim.region for claim in regions), parts, strict=True))
    return shares


def _of_owners(limit: int, owners: dict[str, dict[UUID, list[Claim]]], quota: Quota) -> list[int]:
    """The slots of each owner."""
    demands, weights = [], []
    for owner, images in owners.items():
        claims = [claim for regions in images.values() for claim in regions]
        wanted, most = sum(claim.wanted for claim in claims), quota(owner)
        demands.append(wanted if most is None else min(wanted, most))
        weights.append(max((weight_of(each.priority) for each in claims if each.wanted), default=1))
    return divide(limit, demands, weights)


def divide(total: int, wanted: Sequence[int], weights: Sequence[int] = ()) -> list[int]:
    """Weighted max-min fair shares of a whole number.

    Its units are given out one by one, each to who has least for its weight and wants more. So
    who wants anything gets one before anybody gets two, whatever the weights.

    Args:
        total: The number to divide.
        wanted: What each wants, the earliest first.
        weights: The weight of each; equal ones if there are none.

    Returns:
        The shares, in the order of `wanted`.
    """
    weights = weights or [1] * len(wanted)
    if total >= sum(wanted):
        return list(wanted)
    shares = [0] * len(wanted)
    least = [(Fraction(0), i) for i, want in enumerate(wanted) if want > 0]
    for _ in range(total):
        _, i = least[0]
        shares[i] += 1
        if shares[i] < wanted[i]:
            heapq.heapreplace(least, (Fraction(shares[i], weights[i]), i))
        else:
            heapq.heappop(least)
    return shares
