"""The error of Swath for each error of AWS."""

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
from tasks.inference.excerpt import excerpt
from tasks.inference.http_status import status_error

UNREACHABLE = (NoConnection, HTTPClientError)
"""Errors of botocore for a service that cannot be reached."""

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
_THEN_BODY = "\nb'"  # in botocore's error for a response that it cannot read, before its body

SMALLER_TILES = (
    "give a smaller imageProcessorTileSize, or an imageProcessorTileFormat and "
    "imageProcessorTileCompression that take fewer bytes (PNG; JPEG; NITF with J2K)"
)
"""The remedy for tiles that are too large, for messages."""


def error_code(error: ClientError) -> str:
    """The code of an error, as AWS names it, or ""."""
    return str(error.response.get("Error", {}).get("Code", ""))


def credentials_expired(error: AwsError) -> bool:
    """Whether the credentials have expired, so that fresh ones may be accepted."""
    return isinstance(error, ClientError) and error_code(error) in _EXPIRED


def access_denied(error: AwsError) -> bool:
    """Whether the identity lacks a permission, whether or not the resource exists."""
    return isinstance(error, ClientError) and error_code(error) in _FORBIDDEN


def endpoint_error(where: str, error: AwsError) -> EndpointError:
    """The error of Swath for an error of AWS.

    Args:
        where: The endpoint or the object in S3, as messages name it.
        error: The error that botocore raised.
    """
    if isinstance(error, ClientError):
        return _service_error(where, error)
    if isinstance(error, NoCredentialsError):
        return PermanentError(f"{where}: {error}. Give this process a role or credentials of AWS.")
    if isinstance(error, (*UNREACHABLE, CredentialRetrievalError, ResponseParserError)):
        return TransientError(f"{where}: {excerpt(str(error).partition(_THEN_BODY)[0])}")
    return PermanentError(
        f"{where}: {excerpt(str(error)).rstrip('.')}. Check the parameters and AWS's settings."
    )


def _service_error(where: str, error: ClientError) -> EndpointError:
    name, response = error_code(error), error.response
    metadata = response.get("ResponseMetadata", {})
    retry_after = metadata.get("HTTPHeaders", {}).get("retry-after")
    message = excerpt(str(response.get("Error", {}).get("Message") or ""))
    status = int(metadata.get("HTTPStatusCode", _SERVER_ERROR))
    if name == "ModelError":
        return _model_error(where, error, message, retry_after)
    if "Throttl" in name or name == "RequestLimitExceeded":  # with status 400
        status = 429
    text = f"{where}: {error.operation_name} answered {name} (HTTP {status}): {message}"
    return status_error(text.rstrip(": ") + _remedy(error, status), status, retry_after)


def _model_error(
    where: str, error: ClientError, wrapped: str, retry_after: str | None
) -> EndpointError:
    """The error that the model's container answered, which SageMaker wraps in a 424."""
    response = error.response
    status = int(response.get("OriginalStatusCode") or 0)  # type: ignore[call-overload]
    original = excerpt(str(response.get("OriginalMessage") or wrapped))
    message = f"{where}: the model answered HTTP {status}: {original}"
    if log := response.get("LogStreamArn"):
        message += f" (log: {log})"
    if not status:
        message = f"{where}: the model did not answer SageMaker: {original}"
        return (EndpointTimeoutError if "timed out" in original else TransientError)(message)
    return status_error(message, status, retry_after)


def _remedy(error: ClientError, status: int) -> str:
    """The remedy, if AWS's message does not contain it; else ""."""
    if credentials_expired(error):
        return ". Fresh credentials were refused too: renew them."
    if error.operation_name == "AssumeRole":
        return ". Let this process assume the role: the role's trust policy and sts:AssumeRole."
    if access_denied(error):
        return (
            f". Grant it to the identity that calls (imageProcessor.assumedRole): {_action(error)}."
        )
    return f": {SMALLER_TILES}." if status == _TOO_LARGE else ""


def _action(error: ClientError) -> str:
    """The IAM permission that an operation needs."""
    operation = error.operation_name
    s3 = {"ListObjectsV2": "ListBucket", "DeleteObjects": "DeleteObject"}
    if operation in s3 or operation in {"PutObject", "GetObject"}:
        return f"s3:{s3.get(operation, operation)}"
    return f"sagemaker:{operation}"
