"""Addresses that open in a browser."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from tasks.aws.clients import client

_CONSOLES = {  # of S3, by AWS's partition
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


def console_url(uri: str) -> str | None:
    """The page of an object in the AWS console.

    Args:
        uri: Where a result is: s3://bucket/key, a path, or a stream.

    Returns:
        Its address; None if it is not in S3, or S3 is not AWS's (an emulator has no console).
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not key:
        return None
    meta = client("s3").meta
    host = urlsplit(meta.endpoint_url).hostname or ""
    console = _CONSOLES.get(meta.partition)
    if console is None or not host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return None
    return f"https://{console}/s3/object/{bucket}?prefix={quote(key, safe='')}"
