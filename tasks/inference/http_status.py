"""The error for the HTTP status of a response."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from tasks.errors import (
    EndpointError,
    PermanentError,
    ThrottledError,
    TransientError,
    UnreachableError,
)
from tasks.inference.excerpt import excerpt
from tasks.inference.transport import Response

_OK = 200
_SERVER_ERROR = 500
_THROTTLING = (429, 503)
_GATEWAY = (502, 504)
_TRANSIENT = (408, 425)


def check_status(url: str, response: Response) -> None:
    """Raise the error for the status of a response, unless it is 200.

    Args:
        url: The endpoint, as messages name it.
        response: The endpoint's response.

    Raises:
        ThrottledError: 429 or 503, with the seconds of Retry-After.
        UnreachableError: 502 or 504, from a gateway whose server does not answer.
        TransientError: Another 5xx, 408 or 425.
        PermanentError: Any other status but 200.
    """
    if response.status != _OK:
        target = response.headers.get("location")
        text = excerpt(response.body) or _phrase(response.status)
        reason = f"name {excerpt(target)} instead" if target else text
        raise status_error(
            f"{url} answered HTTP {response.status}: {reason}",
            response.status,
            response.headers.get("retry-after"),
        )


def status_error(message: str, status: int, retry_after: str | None = None) -> EndpointError:
    """The error for an HTTP status.

    Args:
        message: The error's message.
        status: HTTP status, not 200.
        retry_after: Value of the response's header Retry-After, or None.
    """
    if status in _THROTTLING:
        return ThrottledError(message, _seconds(retry_after))
    if status in _GATEWAY:
        return UnreachableError(message)
    if status >= _SERVER_ERROR or status in _TRANSIENT:
        return TransientError(message)
    return PermanentError(message)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _seconds(retry_after: str | None) -> float | None:
    """Seconds to wait by a Retry-After header: a number or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        return _seconds_until(retry_after)


def _seconds_until(date: str) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
