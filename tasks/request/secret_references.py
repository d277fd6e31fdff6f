"""References to secrets in the values of parameters.

A reference stands in double braces within the value's text:

- `{{ prefect.blocks.secret.NAME.KEY }}`: a Secret block of Prefect, as in Prefect's templates;
- `{{ arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME:KEY:STAGE:VERSION }}`: a secret of AWS
  Secrets Manager, as in `valueFrom` of ECS; what follows the secret's ARN may be left out.

Other text in braces is not changed.
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
_DEFAULT_KEY = "value"


@dataclass(frozen=True)
class SecretBlock:
    """A Secret block of Prefect.

    Attributes:
        name: The block's name.
    """

    name: str


@dataclass(frozen=True)
class ManagedSecret:
    """A version of a secret of AWS Secrets Manager.

    Attributes:
        arn: The secret's ARN.
        region: The secret's AWS region.
        stage: The version's staging label; empty for the current version.
        version: The version's id; empty for the version that has the label.
    """

    arn: str
    region: str
    stage: str = ""
    version: str = ""


@dataclass(frozen=True)
class SecretReference:
    """A reference to one value of a secret.

    Attributes:
        text: The reference as it stands in the message, without the braces.
        secret: The secret.
        key: The value's name in the secret.
    """

    text: str
    secret: SecretBlock | ManagedSecret
    key: str


def find_references(text: str) -> Iterator[SecretReference]:
    """The references in a text, in order.

    Raises:
        ValueError: A text in braces begins like a reference and is malformed.
    """
    return (_parse(found[1]) for found in _BRACES.finditer(text))


def replace_references(text: str, value_of: Callable[[SecretReference], str]) -> str:
    """A text with each reference replaced by its value.

    Raises:
        ValueError: As `find_references`.
    """
    return _BRACES.sub(lambda found: value_of(_parse(found[1])), text)


def _parse(text: str) -> SecretReference:
    if found := _BLOCK.fullmatch(text):
        return SecretReference(text, SecretBlock(found["name"]), found["key"] or _DEFAULT_KEY)
    if found := _ARN.fullmatch(text):
        version = {name: found[name] or "" for name in ("stage", "version")}
        secret = ManagedSecret(found["arn"], found["region"], **version)
        return SecretReference(text, secret, found["key"] or _DEFAULT_KEY)
    raise ValueError(
        "is not a reference to a secret; give {{ prefect.blocks.secret.NAME.KEY }} or "
        "{{ arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME:KEY }}"
    )
