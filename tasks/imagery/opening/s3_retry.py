"""Requests to S3 for the file of an image, repeated while their errors may pass.

S3 decides what is permanent: an object that stays absent, and access that stays denied although
the credentials were fetched again. Everything else is expected to pass: throttling, 5xx, broken
connections, time-outs, truncated bodies.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError

from tasks.aws import clients
from tasks.errors import ImageUnreachableError
from tasks.settings import settings

_MISSING_SECONDS = 5.0  # for which an absent object is asked for again
_REFUSED_SECONDS = 20.0  # for which a refused request is repeated, with new credentials
_FIRST_DELAY = 0.25  # seconds; each further delay is twice as long
_LONGEST_DELAY = 5.0

_NOT_FOUND, _TOO_MANY, _SERVER_ERROR = 404, 429, 500
_TRANSIENT_CODES = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException"}
_FINAL_CODES = {"InvalidObjectState", "InvalidRange"}
_CONFIGURATION_ERRORS = (
    ConfigParseError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)

_REMEDIES = {  # by S3 error code: the reason, and what the user can do
    "NoSuchBucket": "there is no such bucket: check the URL",
    "NoSuchKey": "there is no such object: check the URL",
    "AccessDenied": "access denied: grant s3:GetObject on it, or name a role in imageReadRole",
    "InvalidObjectState": "it is archived: restore it first",
    "ExpiredToken": "the credentials have expired: renew them",
    "InvalidRange": "it is empty: upload it again",
}

_Error = BotoCoreError | ClientError | ResponseParserError
_Answer = TypeVar("_Answer")

logger = logging.getLogger(__name__)


def until_answered(
    request: Callable[[], _Answer], url: str, read_role: str | None, stop: Event | None = None
) -> _Answer:
    """S3's answer to a request, which is repeated while its error may pass.

    Args:
        request: Makes the request once; it must not hold a client, as credentials may be renewed.
        url: URL of the image, for messages.
        read_role: IAM role to read S3 with, or None for the process's own identity.
        stop: Ends the repetitions when it is set.

    Raises:
        ImageUnreachableError: S3 refuses the request for good, or still does after the time for
            repetitions.
    """
    stop = stop or Event()
    began, failures, renewed = 0.0, 0, False
    while True:
        try:
            return request()
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            began, failures = began or time.monotonic(), failures + 1
            waited = time.monotonic() - began
            delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (failures - 1))
            if stop.is_set() or waited + delay > _seconds(error):
                asked = f" (asked {failures} times in {waited:.0f} s)" if failures > 1 else ""
                raise ImageUnreachableError(
                    f"{url}: {_reason(error, read_role)}{asked}."
                ) from error
            if failures == 1:
                logger.warning("%s: %s. It is asked again.", url, _reason(error, read_role))
            if _refused(error) and not renewed:
                renewed = True
                clients.renew_credentials()
            stop.wait(random.uniform(delay / 2, delay))  # noqa: S311 - not for cryptography


def empty_file(url: str) -> str:
    """The message for a file without a byte."""
    return f"{url}: {_REMEDIES['InvalidRange']}."


def _seconds(error: _Error) -> float:
    """Seconds for which a request with this error is repeated."""
    patience = settings().read_patience
    if isinstance(error, _CONFIGURATION_ERRORS):
        return 0.0
    if isinstance(error, ClientError):
        if _code(error) in _FINAL_CODES:
            return 0.0
        if _status(error) == _NOT_FOUND:
            return min(patience, _MISSING_SECONDS)
    return min(patience, _REFUSED_SECONDS) if _refused(error) else patience


def _refused(error: _Error) -> bool:
    """Whether S3 or STS refused a request, which other credentials may change."""
    return (
        isinstance(error, ClientError)
        and _status(error) < _SERVER_ERROR
        and _status(error) not in {_NOT_FOUND, _TOO_MANY}
        and _code(error) not in _TRANSIENT_CODES
    )


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _reason(error: _Error, read_role: str | None) -> str:
    """Why S3 or STS did not answer, and the remedy."""
    if not isinstance(error, ClientError):
        return f"S3 cannot be reached as configured: {error}"
    code = _code(error)
    if error.operation_name == "AssumeRole":
        return f"imageReadRole {read_role} cannot be assumed ({code}): check its trust policy"
    return _REMEDIES.get(code, f"S3 refused to read it ({code})")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
