"""Sessions and clients of AWS, for the process's own identity or for a role that it assumes."""

from __future__ import annotations

from functools import lru_cache
from threading import RLock
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import NoCredentialsError

if TYPE_CHECKING:
    from botocore.config import Config

_LOCK = RLock()
"""Held while a session or a client is made: boto3's sessions are not thread-safe."""


class RoleCredentialsError(NoCredentialsError):
    """A role cannot be assumed, because this process has no credentials of its own."""

    fmt = (
        "Unable to locate credentials to assume {role_arn} with: give this process some of its "
        "own (a task role, AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and allow "
        "them sts:AssumeRole"
    )


def session(role_arn: str | None = None) -> boto3.Session:
    """A session of this process or of a role; each call returns the same one.

    The credentials of a role are refreshed before they expire.

    Args:
        role_arn: IAM role to assume through STS, or None for the process's own identity.

    Raises:
        RoleCredentialsError: There are no credentials to assume the role with.
    """
    with _LOCK:
        return _session(role_arn)


@lru_cache
def _session(role_arn: str | None) -> boto3.Session:
    # late: slow to import, and local files need none of it
    from botocore.credentials import (  # noqa: PLC0415
        AssumeRoleCredentialFetcher,
        DeferredRefreshableCredentials,
    )
    from botocore.session import get_session  # noqa: PLC0415

    own = boto3.Session()
    if role_arn is None:
        return own
    source = own.get_credentials()
    if source is None:
        raise RoleCredentialsError(role_arn=role_arn)
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=own.client,
        source_credentials=source,
        role_arn=role_arn,
        extra_args={"RoleSessionName": "swath"},
    )
    assumed = get_session()
    credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    vars(assumed)["_credentials"] = credentials  # botocore has no public way to set them
    if own.region_name:
        assumed.set_config_variable("region", own.region_name)
    return boto3.Session(botocore_session=assumed)


def access_key(role_arn: str | None = None) -> str | None:
    """The access key that an identity signs with now; it changes when credentials are refreshed.

    Returns:
        The key, or None without credentials.
    """
    with _LOCK:
        credentials = _session(role_arn).get_credentials()
    return credentials.get_frozen_credentials().access_key if credentials else None


def client(service: str, role_arn: str | None = None, attempts: int | None = None) -> Any:  # noqa: ANN401 - one type a service
    """A client of a service, shared by the threads of this process.

    Args:
        service: As boto3 names it, such as `s3`.
        role_arn: IAM role to call as, or None for the process's own identity.
        attempts: Requests that may be made for one call; None for five.

    Raises:
        RoleCredentialsError: There are no credentials to assume the role with.
    """
    with _LOCK:
        return _client(service, role_arn, attempts)


@lru_cache
def _client(service: str, role_arn: str | None, attempts: int | None) -> Any:  # noqa: ANN401
    from botocore.config import Config  # noqa: PLC0415 - late, as in `_session`

    config = Config(
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=32,
    )
    if attempts:
        limited = Config(retries={"mode": "standard", "total_max_attempts": attempts})
        config = config.merge(limited)
    return make_client(service, role_arn, config)


def make_client(service: str, role_arn: str | None, config: Config) -> Any:  # noqa: ANN401
    """A new client of a service, with the caller's configuration.

    Args:
        service: As boto3 names it.
        role_arn: IAM role to call as, or None for the process's own identity.
        config: Configuration of botocore.

    Raises:
        RoleCredentialsError: There are no credentials to assume the role with.
    """
    with _LOCK:
        return _session(role_arn).client(service, config=config)  # type: ignore[call-overload]


def renew_credentials() -> None:
    """Drop all sessions and clients, so that the next ones look for credentials again.

    Call it if a service reports expired credentials, or the environment has changed. Sessions and
    clients that callers already hold are not changed.
    """
    with _LOCK:
        _client.cache_clear()
        _session.cache_clear()
