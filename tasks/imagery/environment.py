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
    # No listing of folders, and with it no sidecar: a file is what it holds itself.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    # A JPEG cut short must fail, not turn grey.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",
    "CPL_VSIL_CURL_CACHE_SIZE": 64 * MEBIBYTE,
    # An object may be replaced between two jobs of one process.
    "CPL_VSIL_CURL_NON_CACHED": "/vsis3/",
    "GDAL_HTTP_MAX_RETRY": 2,  # of one request, beside the attempts at a strip
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_TIMEOUT": 60,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,  # a server that sends nothing for so many seconds is hung
    "GDAL_HTTP_LOW_SPEED_TIME": 15,
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
}


@contextmanager
def gdal_environment(
    read_role: str | None = None,
    *,
    s3: bool = True,
    cache: int = 16 * MEBIBYTE,
    chunk: int = MEBIBYTE // 8,
) -> Iterator[None]:
    """Configure GDAL in this thread, with credentials that are fresh on entry.

    GDAL's configuration is a thread's own: enter this in each thread that reads.

    Args:
        read_role: IAM role to read S3 with, or None for the process's own identity.
        s3: False for local files: then no credentials are looked for.
        cache: Bytes of GDAL's block cache, which the threads of a process share. More than is
            needed costs: memory that has left the processor's cache is slow, and new memory slower.
        chunk: Bytes that are fetched at once, at least, where GDAL does not know how many it needs:
            it does for a TIFF's blocks, but not for its header, nor in other formats.
    """
    # Images without a georeference are welcome. Set again on each entry, as whoever resets the
    # filters (test runners do) takes it away; `catch_warnings` is not safe among threads.
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    session: Session = DummySession()
    options: dict[str, object] = {
        **_OPTIONS,
        "GDAL_CACHEMAX": cache,
        "CPL_VSIL_CURL_CHUNK_SIZE": chunk,
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
