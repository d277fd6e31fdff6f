"""The concurrency limit of an endpoint in Prefect: its name, and fair shares of its slots."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from tasks.request import Request

_LONGEST = 80  # characters of an endpoint's name that the limit's name has


def limit_name(request: Request) -> str:
    """The name of the concurrency limit that all calls to a request's endpoint share.

    It is the endpoint's type and name, and its inference component and the account of the assumed
    role if the request names them: `SM_ENDPOINT aircraft`. Characters that Prefect does not allow
    in a name, and parts of a URL that may be secret, are left out; then a hash of the whole name is
    appended.
    """
    processor = request.image_processor
    name, parts = processor.name, [str(processor.type)]
    component = request.image_processor_parameters.get("InferenceComponentName")
    role = processor.assumed_role
    if "://" in name:
        url = urlsplit(name)
        label = f"{url.hostname}:{url.port}{url.path}" if url.port else f"{url.hostname}{url.path}"
    else:
        label = name
    label = re.sub(r"[^\w.:-]+", "-", label, flags=re.ASCII).strip("-")[:_LONGEST]
    parts.append(label)
    if label != name:
        parts.append(hashlib.sha256(name.encode()).hexdigest()[:8])
    if component is not None:
        parts += ["component", re.sub(r"[^\w.:-]+", "-", str(component), flags=re.ASCII)]
    if role is not None:
        parts += ["of", role.split(":")[4]]
    return " ".join(parts)


@dataclass(frozen=True)
class Claim:
    """The calls that one region wants to make to an endpoint.

    Attributes:
        region: The region's flow run.
        image: The flow run of its image.
        wanted: Calls that it could have in flight at a time.
    """

    region: UUID
    image: UUID
    wanted: int


def fair_shares(limit: int, claims: Sequence[Claim]) -> dict[UUID, int]:
    """Share out the slots of a limit: max-min fair between images, then between their regions.

    No region gets more than it wants, and slots that some do not want go to the others. No image
    could have more without taking slots from one that has no more; the same holds for the regions
    of an image. Slots are whole numbers, so the earlier of two equal claims may have one more. The
    result is the same in every process that computes it.

    Args:
        limit: Slots to share out.
        claims: Of all running regions, the earliest first.

    Returns:
        Slots by the region's flow run.
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
        total: The number to divide.
        wanted: What each wants, the earliest first.

    Returns:
        The shares, in the order of `wanted`.
    """
    shares = [0] * len(wanted)
    least_first = sorted(range(len(wanted)), key=lambda i: (wanted[i], -i))
    for remaining, i in zip(range(len(wanted), 0, -1), least_first, strict=True):
        shares[i] = min(wanted[i], total // remaining)
        total -= shares[i]
    return shares
