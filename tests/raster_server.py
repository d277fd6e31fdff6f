"""A model server whose answers a test chooses, and rasters as servers encode them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from tasks.inference.tile_decoding import decode_tile

Reply = tuple[int, str, bytes]
"""Status, media type and body."""

TIFF, PNG, NPY = "image/tiff", "image/png", "application/x-npy"


class RasterServer(ThreadingHTTPServer):
    """Answers each tile with what a function makes of its pixels.

    Attributes:
        answer: The model.
        tiles: The body of each call.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Callable[[NDArray[Any]], Reply] = lambda _: (404, "text/plain", b"no model")
        self.tiles: list[bytes] = []

    @property
    def url(self) -> str:
        """Where the model is."""
        return f"http://127.0.0.1:{self.server_port}"

    def replies(self, media_type: str, body: bytes) -> None:
        """Answer every tile with this."""
        self.answer, self.tiles = lambda _: (200, media_type, body), []

    def models(self, media_type: str, model: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        """Answer every tile with a raster."""
        self.answer = lambda pixels: (200, media_type, encoded(model(pixels), media_type))
        self.tiles = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one segment
    server: RasterServer

    def do_GET(self) -> None:
        self._say(200, "text/plain", b"")

    def do_POST(self) -> None:
        tile = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tiles.append(tile)
        self._say(*self.server.answer(decode_tile(tile)))

    def _say(self, status: int, media_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if media_type:
            self.send_header("Content-Type", media_type)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@contextmanager
def raster_server() -> Iterator[RasterServer]:
    """A running server."""
    with RasterServer() as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def encoded(bands: NDArray[Any], media_type: str, **options: object) -> bytes:
    """A raster (bands, height, width) in a file of this type."""
    if media_type == NPY:
        file = io.BytesIO()
        np.save(file, bands)
        return file.getvalue()
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    driver = {TIFF: "GTiff", PNG: "PNG"}[media_type]
    with MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver=driver, **shape, **options) as dataset:
            dataset.write(bands)
        return bytes(memory.read())
