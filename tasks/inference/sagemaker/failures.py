"""What AWS's errors mean for a tile."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as NoConnection,
)
from botocore.parsers import ResponseParserError

from tasks.errors import EndpointError, EndpointTimeoutError, PermanentError, TransientError
from tasks.inference.http_status import status_error

UNREACHABLE = (NoConnection, HTTPClientError)
"""What botocore raises where a service cannot be reached."""

AwsError = ClientError | BotoCoreError | ResponseParserError

_EXPIRED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
_FORBIDDEN = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_TOO_LARGE = 413
_SERVER_ERROR = 500
_SHOWN = 300  # characters of what AWS or the model said

SMALLER = (
    "give a smaller imageProcessorTileSize, or an imageProcessorTileFormat and "
    "imageProcessorTileCompression that take fewer bytes (PNG; JPEG; NITF with J2K)"
)
"""What to do about a tile that is too large."""


def code(error: ClientError) -> str:
    """AWS's name of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def expired(error: AwsError) -> bool:
    """Whether other credentials of the same identity may be accepted."""
    return isinstance(error, ClientError) and code(error) in _EXPIRED


def forbidden(error: AwsError) -> bool:
    """Whether the identity may not do what it asked for; it may well exist."""
    return isinstance(error, ClientError) and code(error) in _FORBIDDEN


def failure(where: str, error: AwsError) -> EndpointError:
    """The error of Swath that an error of AWS stands for.

    Args:
        where: What was called: the endpoint, or an object in S3.
        error: As botocore raised it.
    """
    if isinstance(error, ClientError):
        return _of_a_service(where, error)
    if isinstance(error, NoCredentialsError):
        return PermanentError(f"{where}: {error}. Give this process a role or credentials of AWS.")
    if isinstance(error, (*UNREACHABLE, CredentialRetrievalError, ResponseParserError)):
        return TransientError(f"{where}: {str(error)[:_SHOWN]}")
    return PermanentError(
        f"{where}: {str(error)[:_SHOWN].rstrip('.')}. Check the parameters and AWS's settings."
    )


def _of_a_service(where: str, error: ClientError) -> EndpointError:
    name, told = code(error), error.response
    about = told.get("ResponseMetadata", {})
    retry_after = about.get("HTTPHeaders", {}).get("retry-after")
    said = str(told.get("Error", {}).get("Message") or "")[:_SHOWN].strip()
    status = int(about.get("HTTPStatusCode", _SERVER_ERROR))
    if name == "ModelError":
        return _of_the_model(where, error, said, retry_after)
    if "Throttl" in name or name == "RequestLimitExceeded":  # with status 400
        status = 429
    said = f"{where}: {error.operation_name} answered {name} (HTTP {status}): {said}".rstrip(": ")
    return status_error(said + _remedy(error, status), status, retry_after)


def _of_the_model(
    where: str, error: ClientError, said: str, retry_after: str | None
) -> EndpointError:
    """What the container answered, which SageMaker wraps in a 424 of its own."""
    told = error.response
    status = int(told.get("OriginalStatusCode") or 0)  # type: ignore[call-overload]
    said = str(told.get("OriginalMessage") or said)[:_SHOWN].strip()
    message = f"{where}: the model answered HTTP {status}: {said}"
    if log := told.get("LogStreamArn"):
        message += f" (log: {log})"
    if not status:
        message = f"{where}: the model did not answer SageMaker: {said}"
        return (EndpointTimeoutError if "timed out" in said else TransientError)(message)
    return status_error(message, status, retry_after)


def _remedy(error: ClientError, status: int) -> str:
    """What to do, where AWS's own words do not say."""
    if expired(error):
        return ". Credentials that were looked for anew are no better: renew them."
    if error.operation_name == "AssumeRole":
        return ". Let this process assume the role: its trust policy and sts:AssumeRole."
    if forbidden(error):
        return (
            f". Grant it to the identity that calls (imageProcessor.assumedRole): {_action(error)}."
        )
    return f": {SMALLER}." if status == _TOO_LARGE else ""


def _action(error: ClientError) -> str:
    """The permission of IAM that an operation takes."""
    operation = error.operation_name
    s3 = {"ListObjectsV2": "ListBucket", "DeleteObjects": "DeleteObject"}
    if operation in s3 or operation in {"PutObject", "GetObject"}:
        return f"s3:{s3.get(operation, operation)}"
    return f"sagemaker:{operation}"
