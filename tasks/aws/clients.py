"""Clients of AWS, for the process's own identity or for a role that a request names."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    DeferredRefreshableCredentials,
)
from botocore.session import get_session

_CONFIG = Config(
    retries={"mode": "standard", "max_attempts": 5},
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=32,
)


@lru_cache
def session(role_arn: str | None = None) -> boto3.Session:
    """A session of this process, or of a role it assumes, refreshed before it expires.

    Args:
        role_arn: IAM role to assume through STS, or None for the process's own identity.
    """
    own = boto3.Session()
    if role_arn is None:
        return own
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=own.client,
        source_credentials=own.get_credentials(),
        role_arn=role_arn,
        extra_args={"RoleSessionName": "swath"},
    )
    assumed = get_session()
    credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    vars(assumed)["_credentials"] = credentials  # botocore's only door
    if own.region_name:
        assumed.set_config_variable("region", own.region_name)
    return boto3.Session(botocore_session=assumed)


def access_key(role_arn: str | None = None) -> str | None:
    """The key that an identity signs with now; another once it was refreshed. None without any."""
    credentials = session(role_arn).get_credentials()
    return credentials.get_frozen_credentials().access_key if credentials else None


@lru_cache
def client(service: str, role_arn: str | None = None, attempts: int | None = None) -> Any:  # noqa: ANN401 - one type a service
    """A client of a service, shared by the threads of this process.

    Args:
        service: In boto3's words.
        role_arn: IAM role to call as, or None for the process's own identity.
        attempts: Calls that may be made for one answer; None for the usual number.
    """
    fewer = attempts and Config(retries={"mode": "standard", "total_max_attempts": attempts})
    config = _CONFIG.merge(fewer) if fewer else _CONFIG
    return session(role_arn).client(service, config=config)  # type: ignore[call-overload]


def renew_credentials() -> None:
    """Look for credentials anew from here on: a service called those at hand expired.

    Sessions and clients that were handed out before keep theirs.
    """
    client.cache_clear()
    session.cache_clear()
