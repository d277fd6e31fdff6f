"""The IAM roles that an operator lets requests name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.errors import RequestError
from tasks.settings import settings

if TYPE_CHECKING:
    from tasks.request.message import Request


def check_roles(request: Request) -> None:
    """Check that an operator allows the roles that a request names.

    Raises:
        RequestError: `SWATH_ENDPOINT_ROLES` is set and does not list one of them.
    """
    allowed = settings().endpoint_roles
    named = {
        "imageProcessor.assumedRole": request.image_processor.assumed_role,
        "imageReadRole": request.image_read_role,
    }
    for field, role in named.items():
        if role is not None and allowed is not None and role not in allowed:
            raise RequestError(
                f"{field}: {role} is not one of the roles that requests may name; leave it out, or "
                "have the operator add it to SWATH_ENDPOINT_ROLES."
            )
