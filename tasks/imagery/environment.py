"""GDAL's configuration for reading images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.session import AWSSession, DummySession, Session

from tasks.aws import clients

MEBIBYTE = 1 << 20

_OPTIONS = {
    # Folders are not listed, so sidecar files are not found: only the file itself is read.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    # A truncated JPEG must fail, not decode to grey pixels.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",
    # An object may be replaced between two jobs of one process.
    "CPL_VSIL_CURL_NON_CACHED": "/vsis3/",
    # Per request, in addition to the attempts per strip: a strip takes many requests, so while S3
    # throttles some of them, it is complete only if each is repeated.
    "GDAL_HTTP_MAX_RETRY": 5,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_TIMEOUT": 60,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,  # bytes per second, measured over LOW_SPEED_TIME
    "GDAL_HTTP_LOW_SPEED_TIME": 15,
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
}


@contextmanager
def gdal_environment(
    read_role: str | None = None,
    *,
    s3: bool = False,
    cache: int = 16 * MEBIBYTE,
    chunk: int = MEBIBYTE // 8,
) -> Iterator[None]:
    """Configure GDAL in this thread, with credentials that are renewed on entry.

    GDAL's configuration is per thread: enter this in each thread that reads.

    Args:
        read_role: IAM role to read S3 with, or None for the process's own identity.
        s3: True for files in S3, which need credentials.
        cache: Bytes of GDAL's block cache, which all threads of a process share. A larger cache
            than needed is slower, as its memory leaves the processor's cache.
        chunk: Minimum bytes of a request when GDAL does not know how many it needs: for the header
            of a TIFF, and for all reads of other formats. GDAL keeps the last 64 of them.
    """
    # Images without a georeference are allowed. The filter is set on each entry, because test
    # runners reset all filters, and `catch_warnings` is not thread-safe.
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    session: Session = DummySession()
    options: dict[str, object] = {
        **_OPTIONS,
        "GDAL_CACHEMAX": cache,
        "CPL_VSIL_CURL_CHUNK_SIZE": chunk,
        "CPL_VSIL_CURL_CACHE_SIZE": 64 * chunk,
    }
    if s3:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        scheme, _, host = (endpoint or "").rstrip("/").partition("://")
        session = AWSSession(clients.session(read_role), endpoint_url=host or None)
        if host:
            options |= {
                "AWS_HTTPS": "YES" if scheme == "https" else "NO",
                "AWS_VIRTUAL_HOSTING": "FALSE",
            }
    with rasterio.Env(session=session, **options):
        yield


def gdal_options(**options: object) -> rasterio.Env:
    """Further options of GDAL in this thread, or none; its credentials stay as they are.

    `rasterio.Env` alone, or a file in memory without one, makes a session of AWS each time where
    credentials are in the environment: ten times the work of a tile.

    Args:
        options: Configuration options of GDAL.
    """
    return rasterio.Env(session=DummySession(), **options)
