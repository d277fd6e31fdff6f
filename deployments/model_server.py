"""HTTP server of the built-in models, with the contract of any HTTP model endpoint.

    POST /{model}/invocations                    a tile as body; answers a FeatureCollection,
                                                 or a raster as application/x-npy
    POST /invocations?model=NAME                 the same; or with the header X-Swath-Model
    GET  /ping                                   200 when ready

Parameters of a model are query parameters or headers of the same names. Errors are JSON with a
`reason`. Run it with `python -m deployments.model_server --port 8080`. After Ctrl-C or SIGTERM it
finishes pending answers and ends.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks.errors import RequestError, ThrottledError, TransientError
from tasks.inference import builtin
from tasks.inference.builtin.failure import BadAnswerError
from tasks.inference.tile_decoding import decode_tile

MAX_BODY = 2**28  # bytes of an encoded tile
KEEP_ALIVE = 75  # seconds that an idle connection stays open: longer than pauses between batches
SHUTDOWN_TIMEOUT = 5  # seconds to wait for pending answers


def app() -> Starlette:
    """The server as an ASGI application: every model of `tasks.inference.builtin`."""
    return Starlette(
        routes=[
            Route("/ping", _ping, methods=["GET"]),
            Route("/invocations", _invoke, methods=["POST"]),
            Route("/{model}/invocations", _invoke, methods=["POST"]),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=1024, compresslevel=1)],
        exception_handlers={HTTPException: _refuse},
    )


def serve(
    host: str = "127.0.0.1", port: int = 8080, *, ready: Callable[[str], None] | None = None
) -> None:
    """Serve the models until SIGINT or SIGTERM.

    Args:
        host: Address to listen on; by default only this machine can connect.
        port: Port to listen on; 0 for any free one.
        ready: Called once with the server's URL, as soon as it answers.

    Raises:
        OSError: The port is in use.
    """
    with _listen(host, port) as listener:
        address = f"http://{host}:{listener.getsockname()[1]}"
        server = _Server(address, ready or (lambda _: None))
        if threading.current_thread() is threading.main_thread():
            # after these signals, uvicorn shuts down and then calls the previous handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
        server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket with the protocol TCP set, so that asyncio turns Nagle's algorithm off.

    With that algorithm, an answer's body waits 40 ms for the acknowledgement of its headers.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"{host}:{port}: {error.strerror}; give another port") from error
    return listener


class _Server(uvicorn.Server):
    """A server that calls a function as soon as it answers requests."""

    def __init__(self, address: str, ready: Callable[[str], None]) -> None:
        config = uvicorn.Config(
            app(),
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
        )
        super().__init__(config)
        self._address, self._ready = address, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call back with the URL."""
        await super().startup(sockets)
        if self.started:
            self._ready(self._address)


async def _ping(_: Request) -> Response:
    """Health check: 200 with the models' names."""
    return JSONResponse({"status": "ready", "models": sorted(builtin.MODELS)})


async def _invoke(request: Request) -> Response:
    """A model's answer for the tile in the body, computed in a thread."""
    model = _model(request)
    payload = await _body(request)
    media_type = request.headers.get("content-type")
    return await run_in_threadpool(_answer, model, payload, media_type)


def _model(request: Request) -> builtin.Model:
    """The model that a request names, with the parameters of the request."""
    query = dict(request.query_params)
    named = request.path_params.get("model") or query.pop("model", None)
    name = str(named or request.headers.get("x-swath-model"))
    if name not in builtin.MODELS:
        known = ", ".join(sorted(builtin.MODELS))
        raise HTTPException(404, f"There is no model {name!r}; give one of {known}.")
    fields = builtin.MODELS[name].model_fields
    parameters = {field: request.headers[field] for field in fields if field in request.headers}
    try:
        return builtin.create_model(name, parameters | query)
    except RequestError as error:
        raise HTTPException(400, str(error)) from error


async def _body(request: Request) -> bytes:
    """The body of a request; 413 as soon as it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"A tile may have {MAX_BODY} bytes; send smaller tiles.")
    return bytes(body)


def _answer(model: builtin.Model, payload: bytes, media_type: str | None) -> Response:
    """The response for a tile: the model's answer, or its failure as a status."""
    try:
        pixels = decode_tile(payload, media_type)
    except ValueError as error:
        return _error_response(400, str(error))
    try:
        answer = model(pixels)
        respond = _npy_response if isinstance(answer, np.ndarray) else _geojson_response
        return respond(answer)
    except BadAnswerError as error:
        return Response(error.body, media_type="application/json")
    except ThrottledError as error:
        return _error_response(503, str(error), {"Retry-After": f"{error.retry_after or 0:g}"})
    except TransientError as error:
        return _error_response(500, str(error))


def _geojson_response(document: dict[str, Any]) -> Response:
    """A GeoJSON response."""
    body = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    return Response(body, media_type="application/geo+json")


def _npy_response(raster: NDArray[Any]) -> Response:
    """A response in NPY."""
    body = io.BytesIO()
    np.save(body, raster, allow_pickle=False)
    return Response(body.getvalue(), media_type="application/x-npy")


def _error_response(status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
    """An error response: JSON with the reason."""
    return JSONResponse({"reason": reason}, status_code=status, headers=headers)


async def _refuse(_: Request, error: Exception) -> Response:
    """The response to a request that names no model or cannot be read."""
    assert isinstance(error, HTTPException)
    return _error_response(error.status_code, error.detail)


def main() -> None:
    """Serve the models from the command line."""
    parser = argparse.ArgumentParser(description="Serve Swath's built-in models over HTTP.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 for any free one")
    announce = lambda url: print(f"models at {url}", flush=True)
    serve(**vars(parser.parse_args()), ready=announce)


if __name__ == "__main__":
    main()
