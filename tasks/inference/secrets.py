"""Secrets that a request's parameters refer to: fetched, and sent only to the URLs they are for.

A secret is a JSON object. Its member `url` says where its values may be sent: without that check,
anybody who may send a message could have a secret sent to a server of their own. The other members
are the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import Url

from tasks.aws.secrets import secret_string
from tasks.errors import EndpointError, RequestError
from tasks.request.secret_references import (
    ManagedSecret,
    SecretBlock,
    SecretReference,
    replace_references,
)

BlockReader = Callable[[str], object]
"""Returns the value of the Secret block with a given name.

Raises EndpointError if a retry may help, otherwise RequestError.
"""

STORED_FORM = '{"url": "https://host/path", "value": "…"}'
"""The form of a secret, for messages to users."""

_URL = "url"
_block_readers: list[BlockReader] = []  # the registered one, if there is one


@dataclass(frozen=True)
class Revealed:
    """Parameters with the values of secrets in place of references; its `repr` shows no values.

    Attributes:
        parameters: Values by the parameters' names.
        secrets: The values that came from secrets, to be masked in all text that users see.
    """

    parameters: Mapping[str, Any] = field(repr=False)
    secrets: frozenset[str] = field(repr=False)


def register_block_reader(read: BlockReader) -> None:
    """Set how this process reads Secret blocks of Prefect; without a reader they are refused."""
    _block_readers[:] = [read]


def reveal(parameters: Mapping[str, Any], url: str) -> Revealed:
    """Replace the references to secrets in a request's parameters by the secrets' values.

    A process fetches each secret once.

    Args:
        parameters: The request's `imageProcessorParameters`.
        url: URL that the parameters will be sent to.

    Raises:
        RequestError: A secret cannot be read, or may not be sent to `url`. The message names the
            parameter and the reference.
        EndpointError: The secret's store does not answer; a retry may help.
    """
    secrets: set[str] = set()

    def value_of(name: str, reference: SecretReference) -> str:
        try:
            value = _value(reference, url)
        except (RequestError, EndpointError) as error:
            where = f"imageProcessorParameters.{name}: {{{{ {reference.text} }}}}"
            raise type(error)(f"{where}: {error}") from error
        secrets.add(value)
        return value

    filled = {
        name: replace_references(value, partial(value_of, name))
        if isinstance(value, str)
        else value
        for name, value in parameters.items()
    }
    return Revealed(filled, frozenset(secrets))


def _value(reference: SecretReference, url: str) -> str:
    members = _members(reference.secret)
    allowed, value = members[_URL], members.get(reference.key)
    if not _lies_under(url, allowed):
        raise RequestError(
            f"may be sent to {allowed} only: give an endpoint there as imageProcessor.name, or set "
            "the secret's `url` to the URL of this endpoint."
        )
    if reference.key == _URL or isinstance(value, bool) or not isinstance(value, str | int | float):
        keys = ", ".join(sorted(members.keys() - {_URL})) or "none"
        raise RequestError(f"the secret has no text as {reference.key!r}: its keys are {keys}.")
    return str(value).strip()


def _lies_under(url: str, allowed: str) -> bool:
    """Whether a URL is `allowed` or below it, parsed as the HTTP client parses URLs."""
    try:
        there, here = Url(allowed), Url(url)
    except ValidationError:
        return False
    same = (there.scheme, there.host, there.port) == (here.scheme, here.host, here.port)
    folder, path = (there.path or "/").rstrip("/") + "/", here.path or "/"
    return same and f"{path}/".startswith(folder)


@lru_cache(maxsize=64)
def _members(secret: SecretBlock | ManagedSecret) -> Mapping[str, Any]:
    stored = _stored(secret)
    try:
        members = orjson.loads(stored) if isinstance(stored, str) else stored
    except orjson.JSONDecodeError:
        members = None
    if not isinstance(members, dict) or not isinstance(members.get(_URL), str):
        raise RequestError(
            f"the secret does not say where it may be sent: store {STORED_FORM}."
        ) from None
    return members


def _stored(secret: SecretBlock | ManagedSecret) -> object:
    if isinstance(secret, ManagedSecret):
        return secret_string(secret.arn, secret.region, stage=secret.stage, version=secret.version)
    if not _block_readers:
        raise RequestError(
            f"the Secret block {secret.name!r} is kept by Prefect, and this process works without "
            "Prefect: run the job as a Prefect flow, as `swath run --prefect` does, or name a "
            "secret of AWS Secrets Manager."
        )
    return _block_readers[0](secret.name)
