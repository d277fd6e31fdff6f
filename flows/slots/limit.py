"""The concurrency limit of an endpoint in Prefect: its name, and fair shares of its slots."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from tasks.request import Request

_LONGEST = 80  # characters of an endpoint's name that are shown


def limit_name(request: Request) -> str:
    """The name of the limit that all who call a request's endpoint share.

    It is the endpoint's type and name, with the inference component and the account of the assumed
    role where there are any: `SM_ENDPOINT aircraft`. What Prefect takes in no name, and what may be
    secret in a URL, is left out, and a hash of the whole is there in its place.
    """
    processor = request.image_processor
    name, parts = processor.name, [str(processor.type)]
    component = request.image_processor_parameters.get("InferenceComponentName")
    role = processor.assumed_role
    if "://" in name:
        url = urlsplit(name)
        shown = f"{url.hostname}:{url.port}{url.path}" if url.port else f"{url.hostname}{url.path}"
    else:
        shown = name
    shown = re.sub(r"[^\w.:-]+", "-", shown, flags=re.ASCII).strip("-")[:_LONGEST]
    parts.append(shown)
    if shown != name:
        parts.append(hashlib.sha256(name.encode()).hexdigest()[:8])
    if component is not None:
        parts += ["component", re.sub(r"[^\w.:-]+", "-", str(component), flags=re.ASCII)]
    if role is not None:
        parts += ["of", role.split(":")[4]]
    return " ".join(parts)


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
