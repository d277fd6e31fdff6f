"""Who may have how many slots of an endpoint: fair between images, then between their regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class Claim:
    """What one region asks of an endpoint.

    Attributes:
        region: The region's flow run.
        image: The flow run of its image.
        wanted: Calls that it could have in flight.
    """

    region: UUID
    image: UUID
    wanted: int


def fair_shares(limit: int, claims: Sequence[Claim]) -> dict[UUID, int]:
    """The slots of each region, by its flow run.

    Max-min fair: nobody gets more than they want, what some do not want goes to the others, and no
    image could have more without one that has less losing some; so within an image. Slots are
    whole, so of equals, who came first may have one more; all regions come to the same result.

    Args:
        limit: Slots that there are.
        claims: Of all regions at work, first come first.
    """
    images: dict[UUID, list[Claim]] = {}
    for claim in claims:
        images.setdefault(claim.image, []).append(claim)
    demands = [sum(claim.wanted for claim in regions) for regions in images.values()]
    return {
        claim.region: slots
        for regions, total in zip(images.values(), divide(limit, demands), strict=True)
        for claim, slots in zip(
            regions, divide(total, [claim.wanted for claim in regions]), strict=True
        )
    }


def divide(total: int, wanted: Sequence[int]) -> list[int]:
    """Max-min fair shares of a whole number.

    Args:
        total: What there is.
        wanted: By each, first come first.
    """
    shares = [0] * len(wanted)
    modest_first = sorted(range(len(wanted)), key=lambda i: (wanted[i], -i))
    for left, i in zip(range(len(wanted), 0, -1), modest_first, strict=True):
        shares[i] = min(wanted[i], total // left)
        total -= shares[i]
    return shares
