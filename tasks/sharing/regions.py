"""Whether an image submits its next region to a work pool whose places several images want."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from uuid import UUID

from tasks.sharing.shares import Quota, divide, weight_of

_WAITING_SHARE = 8  # of the places: one region that waits for each so many


@dataclass(frozen=True)
class RegionClaim:
    """An image that wants a place for its next region.

    Attributes:
        image: The flow run of the image.
        owner: Whose job it is; empty for jobs without an owner, which share as one.
        priority: That of its job.
        held: Its regions that have a place or wait for one.
        since: When it submitted its last region, or first wanted a place, in seconds of any clock
            that all share.
    """

    image: UUID
    owner: str
    priority: int
    held: int
    since: float


@dataclass(frozen=True)
class Pool:
    """The places of a work pool for regions, and how many regions have one or wait for one.

    Attributes:
        places: Regions that run at a time.
        taken: Regions of all owners.
        of_owner: Regions of the owner of the image that asks, those of images that want no further
            place among them.
        quota: Regions that an owner may have.
    """

    places: int
    taken: int
    of_owner: int
    quota: Quota

    @property
    def free(self) -> int:
        """Places that a new region would find; not positive if regions wait for one."""
        return self.places - self.taken


def most_waiting(places: int) -> int:
    """Regions of an image, or of a single owner, that wait while no place is free, at the most.

    With one, the only image of an owner gets too few of the places that become free, as each region
    of it waits behind those of all other owners. With many, an image that comes later waits longer.
    """
    return max(3, places // _WAITING_SHARE)


def may_submit(own: RegionClaim, others: Sequence[RegionClaim], pool: Pool) -> bool:
    """Whether an image submits its next region now.

    A free place goes to whoever asks first, within its owner's quota; but as many of them as there
    are images that have no region yet are left to these, which ask within seconds.

    While no place is free, an owner may have its fair share of the places, and of a few regions
    that wait for the next ones: one for each owner, or an eighth of the places. If all images are
    of one owner, one for each of them, but no more than three or an eighth of the places, as an
    owner who comes later waits for them all. Shares are max-min fair between the owners who want
    places, weighted by the highest priority of their images; what is left over by rounding goes to
    the owner who asks, so that owners who want the same have the same.

    Of the images of one owner, the next region is that of the image with the fewest regions for its
    weight, and of equal ones that of the image that has waited longest for its turn. So each has
    one before one of them has two.

    Args:
        own: The image that asks.
        others: The other images that want a place.
        pool: The places.
    """
    if 0 < pool.free <= _number_without_region(own, others, pool):
        return False
    room = _share(own, others, pool) - pool.of_owner
    if room <= 0:
        return False
    before = _position(own)
    rank = sum(_position(other) < before for other in others if other.owner == own.owner)
    return rank < room


def _number_without_region(own: RegionClaim, others: Sequence[RegionClaim], pool: Pool) -> int:
    """The images without a region that are before an image; those with quotas may have to wait."""
    return sum(
        other.held == 0
        and (own.held > 0 or _position(other)[1:] < _position(own)[1:])
        and pool.quota(other.owner) is None
        for other in others
    )


def _share(own: RegionClaim, others: Sequence[RegionClaim], pool: Pool) -> int:
    """The regions that the owner of an image may have."""
    most = pool.quota(own.owner)
    if pool.free > 0:
        return pool.of_owner + pool.free if most is None else most
    weights: dict[str, int] = {}  # the owner who asks is the first
    for claim in (own, *others):
        weights[claim.owner] = max(weight_of(claim.priority), weights.get(claim.owner, 1))
    images = min(1 + len(others), most_waiting(pool.places))
    waiting = len(weights) if len(weights) > 1 else images
    limit = pool.places + max(waiting, pool.places // _WAITING_SHARE)
    quotas = [pool.quota(owner) for owner in weights]
    wanted = [limit if quota is None else min(limit, quota) for quota in quotas]
    return divide(limit, wanted, [*weights.values()])[0]


def _position(claim: RegionClaim) -> tuple[Fraction, float, str]:
    """The lowest is the next of its owner."""
    return (Fraction(claim.held, weight_of(claim.priority)), claim.since, str(claim.image))
