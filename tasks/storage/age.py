"""When objects were written."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tasks.aws.clients import client
from tasks.storage.objects import is_s3, split_s3, storage_errors


def last_written(uri: str) -> datetime | None:
    """When an object under a folder or prefix was last written; None if there is none.

    Raises:
        PublishError: It could not be determined.
    """
    with storage_errors("list", uri):
        if not is_s3(uri):
            files = [path for path in Path(uri).rglob("*") if path.is_file()]
            return max((_written(path) for path in files), default=None)
        bucket, prefix = split_s3(uri)
        pages = client("s3").get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=bucket, Prefix=prefix.rstrip("/") + "/")
        return max(
            (each["LastModified"] for page in found for each in page.get("Contents", [])),
            default=None,
        )


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
