"""Secrets that a request names: fetched where they are sent from, and sent only where they belong.

A secret is a JSON object. Its `url` says where it may go, for a message must not be able to have a
secret sent to whoever wrote the message; its other members are the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import orjson
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from pydantic import ValidationError
from pydantic_core import Url

from tasks.aws.clients import session
from tasks.errors import EndpointError, RequestError, UnreachableError
from tasks.request.secret_references import (
    ManagedSecret,
    SecretBlock,
    SecretReference,
    replace_references,
)

_URL = "url"
_FORM = '{"url": "https://host/path", "value": "…"}'
_REMEDIES = {  # AWS's error codes, and what an operator does about them
    "ResourceNotFoundException": "there is none: make it, or correct the ARN",
    "AccessDeniedException": "grant the image's and region's roles secretsmanager:GetSecretValue "
    "on it, and kms:Decrypt on its key if that is your own",
    "DecryptionFailure": "grant the image's and region's roles kms:Decrypt on its key",
    "InvalidRequestException": "it is being deleted: restore it",
    "InvalidParameterException": "correct the ARN",
    "UnrecognizedClientException": "give this process valid AWS credentials",
    "ExpiredTokenException": "give this process valid AWS credentials",
}


@dataclass(frozen=True)
class Revealed:
    """Parameters with the secrets that they name in their places; neither is in its `repr`.

    Attributes:
        parameters: By name.
        secrets: The secrets' values alone, to be kept out of all that is told.
    """

    parameters: Mapping[str, Any] = field(repr=False)
    secrets: frozenset[str] = field(repr=False)


def reveal(parameters: Mapping[str, Any], url: str) -> Revealed:
    """A request's parameters as they are sent; each secret is fetched once by a process.

    Args:
        parameters: The request's `imageProcessorParameters`.
        url: Where they are sent to.

    Raises:
        RequestError: A secret is not to be had, or may not be sent there; with the parameter and
            the reference.
        EndpointError: Who keeps it does not answer, and may the next time.
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
            f"is for {allowed} alone: name an endpoint there in imageProcessor.name, or have the "
            "secret's `url` say where else it may be sent."
        )
    if reference.key == _URL or isinstance(value, bool) or not isinstance(value, str | int | float):
        keys = ", ".join(sorted(members.keys() - {_URL})) or "none"
        raise RequestError(f"the secret has no text as {reference.key!r}: name one of its: {keys}.")
    return str(value).strip()


def _lies_under(url: str, allowed: str) -> bool:
    """Whether a URL is another one or lies below it, as the client that calls it reads URLs."""
    try:
        there, here = Url(allowed), Url(url)
    except ValidationError:
        return False
    same = (there.scheme, there.host, there.port) == (here.scheme, here.host, here.port)
    folder, path = (there.path or "/").rstrip("/") + "/", here.path or "/"
    return same and f"{path}/".startswith(folder)


@lru_cache(maxsize=64)
def _members(place: SecretBlock | ManagedSecret) -> Mapping[str, Any]:
    stored = _of_prefect(place) if isinstance(place, SecretBlock) else _of_aws(place)
    try:
        members = orjson.loads(stored) if isinstance(stored, str) else stored
    except orjson.JSONDecodeError:
        members = None
    if not isinstance(members, dict) or not isinstance(members.get(_URL), str):
        raise RequestError(
            f"the secret does not say where it may be sent: store {_FORM}."
        ) from None
    return members


def _of_prefect(block: SecretBlock) -> Any:  # noqa: ANN401 - whatever was stored
    """What a block holds, asked of the Prefect server of this process."""
    import httpx  # noqa: PLC0415 - few requests name such a secret
    from prefect import get_client  # noqa: PLC0415
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError  # noqa: PLC0415

    try:
        with get_client(sync_client=True) as client:
            document = client.read_block_document_by_name(block.name, "secret")
    except ObjectNotFound:
        raise RequestError(
            f"there is no Secret block {block.name!r} on this Prefect server: make it, with the "
            f"value {_FORM}, or correct the name."
        ) from None
    except PrefectHTTPStatusError as error:
        told = f"Prefect answered HTTP {error.response.status_code}"
        if error.response.is_client_error:
            raise RequestError(f"{told}: give this process a key that may read blocks.") from error
        raise UnreachableError(f"{told}.") from error
    except httpx.HTTPError as error:
        raise UnreachableError(f"Prefect does not answer: {error}.") from error
    return document.data.get("value")


def _of_aws(secret: ManagedSecret) -> str | None:
    """What a secret holds, read as this process; None for one that is not text."""
    version = {"VersionStage": secret.stage, "VersionId": secret.version}
    given = {name: value for name, value in version.items() if value}
    try:
        client = session().client("secretsmanager", region_name=secret.region)
        found = client.get_secret_value(SecretId=secret.arn, **given)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _REMEDIES:
            raise RequestError(f"AWS answers {code}: {_REMEDIES[code]}.") from error
        raise UnreachableError(f"Secrets Manager does not give it: {error}.") from error
    except NoCredentialsError as error:
        raise RequestError("this process has no AWS credentials: give it some.") from error
    except BotoCoreError as error:
        raise UnreachableError(f"Secrets Manager does not answer: {error}.") from error
    return found.get("SecretString")
