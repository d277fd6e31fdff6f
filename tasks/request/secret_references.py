"""Secrets that a parameter's value names, in place of holding them.

They stand in the value's text, in the words of those who keep them, in double braces:

- `{{ prefect.blocks.secret.NAME.KEY }}`: a Secret block of Prefect, as its own templates name it;
- `{{ arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME:KEY:STAGE:VERSION }}`: a secret of AWS
  Secrets Manager, as ECS names it in `valueFrom`; what follows the secret's ARN may be left out.

Other text in braces is none of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_BRACES = re.compile(r"\{\{\s*((?:prefect\.|arn:).*?)\s*\}\}")
_BLOCK = re.compile(r"prefect\.blocks\.secret\.(?P<name>[a-z0-9-]+)(\.(?P<key>[^.{}\s]+))?")
_ARN = re.compile(
    r"(?P<arn>arn:aws[a-z-]*:secretsmanager:(?P<region>[a-z0-9-]+):[0-9]{12}:secret:[\w/+=.@-]+)"
    r"(:(?P<key>[^:{}]*)(:(?P<stage>[^:{}]*)(:(?P<version>[^:{}]*))?)?)?",
    re.ASCII,
)
_KEY = "value"  # where a reference names none


@dataclass(frozen=True)
class SecretBlock:
    """A Secret block of Prefect.

    Attributes:
        name: Of the block.
    """

    name: str


@dataclass(frozen=True)
class ManagedSecret:
    """A version of a secret of AWS Secrets Manager.

    Attributes:
        arn: Of the secret.
        region: That it is in.
        stage: Label of the version; empty for the current one.
        version: Its id; empty for what the stage says.
    """

    arn: str
    region: str
    stage: str = ""
    version: str = ""


@dataclass(frozen=True)
class SecretReference:
    """One value of a secret.

    Attributes:
        text: As the message has it, without the braces.
        place: The secret.
        key: The value's name in it.
    """

    text: str
    place: SecretBlock | ManagedSecret
    key: str


def find_references(text: str) -> Iterator[SecretReference]:
    """The secrets that a text names, in order.

    Raises:
        ValueError: Something in braces begins like a reference and is none.
    """
    return (_read(found[1]) for found in _BRACES.finditer(text))


def replace_references(text: str, value_of: Callable[[SecretReference], str]) -> str:
    """A text with the secrets that it names in their places.

    Raises:
        ValueError: As `references`.
    """
    return _BRACES.sub(lambda found: value_of(_read(found[1])), text)


def _read(text: str) -> SecretReference:
    if found := _BLOCK.fullmatch(text):
        return SecretReference(text, SecretBlock(found["name"]), found["key"] or _KEY)
    if found := _ARN.fullmatch(text):
        version = {name: found[name] or "" for name in ("stage", "version")}
        place = ManagedSecret(found["arn"], found["region"], **version)
        return SecretReference(text, place, found["key"] or _KEY)
    raise ValueError(
        "names no secret that can be had; give {{ prefect.blocks.secret.NAME.KEY }} or "
        "{{ arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME:KEY }}"
    )
