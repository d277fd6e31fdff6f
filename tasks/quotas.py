"""What the jobs of an owner may have at a time, as an operator sets it."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PositiveInt

_SETTING = "SWATH_OWNER_QUOTAS"
_REMEDY = (
    "give a JSON object with an object for each owner, such as "
    '{"maritime": {"images": 4, "regions": 20, "calls": 32}, "*": {"images": 2}}'
)


class OwnerQuota(BaseModel):
    """What the jobs of one owner may have at a time; without a limit where a field is not given.

    Attributes:
        images: Images at work.
        regions: Regions that have a place on a work pool or wait for one.
        calls: Calls to each model.
    """

    model_config = ConfigDict(frozen=True)

    images: PositiveInt | None = None
    regions: PositiveInt | None = None
    calls: PositiveInt | None = None


def _read(value: object) -> object:
    """Read quotas from JSON, and say what is wrong with them in the words of the setting."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{_SETTING} is {value!r}, no JSON ({error}); {_REMEDY}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{_SETTING} is {value!r}, no JSON object; {_REMEDY}")  # noqa: TRY004
    for owner, quotas in value.items():
        if not isinstance(quotas, dict):
            raise ValueError(f"{_SETTING}: {_whose(owner)} have {quotas!r}; {_REMEDY}")  # noqa: TRY004
        for name, most in quotas.items():
            _check(owner, name, most)
    return value


def _check(owner: str, name: str, most: object) -> None:
    if name not in OwnerQuota.model_fields:
        *others, last = OwnerQuota.model_fields
        known = f"{', '.join(others)} or {last}"
        raise ValueError(
            f"{_SETTING}: {_whose(owner)} have an unknown quota {name!r}; give {known}"
        )
    if type(most) is not int or most < 1:
        raise ValueError(
            f"{_SETTING}: {name!r} of {_whose(owner)} is {most!r}; "
            "give a whole number from 1, or leave it out for no limit"
        )


def _whose(owner: str) -> str:
    names = {"": "the jobs without an owner, '',", "*": "the owners that are not named, '*',"}
    return names.get(owner, f"the jobs of owner {owner!r}")


OwnerQuotas = Annotated[dict[str, OwnerQuota], BeforeValidator(_read)]
"""Quotas by owner; "*" is for each owner without one."""
