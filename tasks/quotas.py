"""What the jobs of an owner may have at a time, as an operator sets it."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PositiveInt


class OwnerQuota(BaseModel):
    """What the jobs of one owner may have at a time; without a limit where a field is not given.

    Attributes:
        images: Images at work.
        calls: Calls to each model.
    """

    model_config = ConfigDict(frozen=True)

    images: PositiveInt | None = None
    calls: PositiveInt | None = None


def _read(value: object) -> object:
    """Read quotas from JSON, and say what is wrong with them in the words of the setting."""
    example = '{"maritime": {"images": 4, "calls": 32}, "*": {"images": 2}}'
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"is not JSON ({error}); give for example {example}") from error
    if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
        raise ValueError(f"is no JSON object with an object for each owner; give {example}")
    for owner, quota in value.items():
        for name, most in quota.items():
            if name not in OwnerQuota.model_fields:
                known = ", ".join(OwnerQuota.model_fields)
                raise ValueError(f"{owner!r} has {name!r}, which is no quota; give {known}")
            if type(most) is not int or most < 1:
                raise ValueError(
                    f"{name} of {owner!r} is {most!r}; give a whole number from 1, or leave it out"
                )
    return value


OwnerQuotas = Annotated[dict[str, OwnerQuota], BeforeValidator(_read)]
"""Quotas by owner; "*" is for each owner without one."""
