"""Patience with a store or a stream: a call that may succeed later is repeated for a while."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    ProfileNotFound,
)

from tasks.settings import settings

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds between two calls
_NEVER = (NoCredentialsError, ParamValidationError, ProfileNotFound)
_FINAL = {
    "404",
    "NoSuchKey",
    "NoSuchBucket",
    "NoSuchUpload",
    "PreconditionFailed",
    "412",
    "NotImplemented",
    "ResourceNotFoundException",
    "InvalidArgumentException",
    "ValidationException",
}
"""Codes of S3 and Kinesis after which no later call can succeed.

403 is not one: a policy may be on its way.
"""
_PASSING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ESTALE,
    errno.EAGAIN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ETIMEDOUT,
}
"""Errors of a file system that may pass: a full disk, a file server that is away."""

P = ParamSpec("P")
T = TypeVar("T")


def patiently(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call until it succeeds, or for `SWATH_STORAGE_PATIENCE`.

    Raises:
        ClientError, BotoCoreError, Boto3Error, OSError: The last one, after that time; or one after
            which no later call can succeed, at once.
    """
    end = time.monotonic() + settings().storage_patience
    pause = _FIRST_PAUSE
    while True:
        try:
            return call(*args, **kwargs)
        except (ClientError, BotoCoreError, Boto3Error, OSError) as error:
            if not _may_pass(error) or time.monotonic() + pause > end:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _may_pass(error: Exception) -> bool:
    if isinstance(error, Boto3Error) and isinstance(error.__context__, ClientError):
        error = error.__context__  # a managed upload hides the answer of S3
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] not in _FINAL
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return not isinstance(error, _NEVER)
