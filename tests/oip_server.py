"""A server of the Open Inference Protocol for tests: it runs ONNX files, or fails on demand.

It is written only from the specification and Triton's extensions, and shares no code with the
client. Run with `python -m tests.oip_server NAME=FILE.onnx …`; it prints its address. It serves
every model under four base paths, which behave as four different servers:

    /v2           as Triton: announces binary tensors, and a maximum batch size of 4
    /silent/v2    as KServe: supports binary tensors without announcing them
    /none/v2      as MLServer: only JSON
    /gate/way/v2  behind a gateway that only lets requests for models through, and only with
                  `Authorization: Bearer abc`; the metadata have no inputs and outputs

The header `misbehave` of a request names the fault of its response (`FAULTS`). `/seen` under each
base path lists the inference requests so far.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

HEADER = "inference-header-content-length"
ROOT = Path(__file__).resolve().parent.parent
DTYPES = {
    "bool": ("BOOL", "?"),
    "uint8": ("UINT8", "<u1"),
    "uint16": ("UINT16", "<u2"),
    "uint32": ("UINT32", "<u4"),
    "uint64": ("UINT64", "<u8"),
    "int8": ("INT8", "<i1"),
    "int16": ("INT16", "<i2"),
    "int32": ("INT32", "<i4"),
    "int64": ("INT64", "<i8"),
    "float16": ("FP16", "<f2"),
    "float": ("FP32", "<f4"),
    "double": ("FP64", "<f8"),
    "string": ("BYTES", "O"),
    "bfloat16": ("BF16", "<u2"),
}  # by ONNX Runtime's name
BY_DATATYPE = dict(DTYPES.values())
BY_DTYPE = {np.dtype(code): name for name, code in BY_DATATYPE.items() if name != "BF16"}


@contextmanager
def oip_server(**models: Path) -> Iterator[str]:
    """The address of a server of ONNX files that runs in its own process for the `with` block."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.oip_server",
            *(f"{name}={file}" for name, file in models.items()),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 60)
    line = process.stdout.readline() if ready else ""
    try:
        assert line.startswith("http://127.0.0.1:"), process.communicate(timeout=5)[1]
        yield line.strip()
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@dataclass
class Variant:
    """What a server supports, and the requests it has received.

    Attributes:
        path: Prefix of its paths.
        advertised: Whether it announces binary tensors.
        binary: Whether it supports them.
        max_batch: Maximum batch size, announced; None for any size, not announced.
        token: Value of Authorization that it requires.
        bare: Whether its metadata lack inputs and outputs.
        seen: Inference requests so far.
    """

    path: str
    advertised: bool = True
    binary: bool = True
    max_batch: int | None = None
    token: str | None = None
    bare: bool = False
    seen: list[dict[str, Any]] = field(default_factory=list)


def variants() -> list[Variant]:
    return [
        Variant("", max_batch=4),
        Variant("/silent", advertised=False),
        Variant("/none", advertised=False, binary=False),
        Variant("/gate/way", token="Bearer abc", bare=True),
    ]


@dataclass
class Served:
    """A model."""

    name: str
    session: onnxruntime.InferenceSession

    def metadata(self, *, bare: bool) -> dict[str, Any]:
        inputs = None if bare else self.tensors(self.session.get_inputs())
        outputs = None if bare else self.tensors(self.session.get_outputs())
        return {
            "name": self.name,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": inputs,
            "outputs": outputs,
        }

    def tensors(self, described: list[Any]) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "datatype": DTYPES[one.type[7:-1]][0],
                "shape": [side if isinstance(side, int) else -1 for side in one.shape],
            }
            for one in described
        ]

    def infer(
        self, name: str, tensor: NDArray[Any], wanted: list[str]
    ) -> list[tuple[str, NDArray[Any]]]:
        (described,) = self.tensors(self.session.get_inputs())
        given = {"name": name, "datatype": BY_DTYPE[tensor.dtype], "shape": list(tensor.shape)}
        fits = len(given["shape"]) == len(described["shape"]) and all(
            known in (-1, side)
            for known, side in zip(described["shape"], given["shape"], strict=True)
        )
        if (name, given["datatype"]) != (described["name"], described["datatype"]) or not fits:
            raise HTTPException(400, f"unexpected input {given}, expecting {described}")
        names = [one.name for one in self.session.get_outputs()]
        if not set(wanted) <= set(names):
            raise HTTPException(400, f"unexpected outputs {wanted}, the model has {names}")
        wanted = wanted or names
        return list(zip(wanted, self.session.run(wanted, {name: tensor}), strict=True))


def read(
    body: bytes, headers: Any, *, binary: bool = True
) -> tuple[str, NDArray[Any], dict[str, Any]]:
    """The one input of a request, and the request."""
    in_bytes = HEADER in headers
    if in_bytes and not binary:
        raise HTTPException(400, "failed to parse the request JSON buffer")
    split = int(headers[HEADER]) if in_bytes else len(body)
    document = json.loads(body[:split])
    (given,) = document["inputs"]
    dtype = np.dtype(BY_DATATYPE[given["datatype"]])
    if in_bytes:
        size = given["parameters"]["binary_data_size"]
        if size != len(body) - split or size != np.prod(given["shape"]) * dtype.itemsize:
            raise HTTPException(400, f"unexpected size of {size} for input {given['name']}")
        elements = np.frombuffer(body[split:], dtype)
    elif given["datatype"] == "FP16":
        raise HTTPException(400, "receiving FP16 data via JSON is not supported")
    else:
        elements = np.array(given["data"], dtype)
    return given["name"], elements.reshape(given["shape"]), document


def write(
    outputs: list[tuple[str, NDArray[Any]]], *, binary: bool
) -> tuple[dict[str, Any], list[bytes]]:
    """The response as JSON, and the binary tensors that follow it."""
    declared, blobs = [], []
    for name, array in outputs:
        one: dict[str, Any] = {
            "name": name,
            "datatype": BY_DTYPE[array.dtype],
            "shape": list(array.shape),
        }
        if binary:
            blobs.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
            one["parameters"] = {"binary_data_size": len(blobs[-1])}
        elif array.dtype == np.float16:
            raise HTTPException(400, "sending FP16 data via JSON is not supported")
        else:
            one["data"] = array.ravel().tolist()
        declared.append(one)
    return {"model_name": "m", "model_version": "1", "outputs": declared}, blobs


def packed(document: Any, blobs: list[bytes], **headers: str) -> Response:
    head = json.dumps(document).encode()
    if not blobs:
        return Response(head, media_type="application/json")
    return Response(
        head + b"".join(blobs),
        media_type="application/octet-stream",
        headers={HEADER: str(len(head))} | headers,
    )


def with_first(**fields: Any) -> Callable[[Any, list[bytes]], Response]:
    """A response whose first output declares something else."""

    def response(document: Any, blobs: list[bytes]) -> Response:
        document["outputs"][0] |= fields
        return packed(document, blobs)

    return response


def wrong_size(document: Any, blobs: list[bytes]) -> Response:
    document["outputs"][0]["parameters"]["binary_data_size"] -= 4
    return packed(document, blobs)


def grown_batch(document: Any, blobs: list[bytes]) -> Response:
    for place, one in enumerate(document["outputs"]):
        row = len(blobs[place]) // one["shape"][0]
        one["shape"][0] += 1
        one["parameters"]["binary_data_size"] += row
        blobs[place] += blobs[place][:row]
    return packed(document, blobs)


def not_a_number(document: Any, blobs: list[bytes]) -> Response:
    for place, one in enumerate(document["outputs"]):
        dtype = np.dtype(BY_DATATYPE[one["datatype"]])
        if dtype.kind == "f":
            blobs[place] = np.full(len(blobs[place]) // dtype.itemsize, np.nan, dtype).tobytes()
    return packed(document, blobs)


def broken(document: Any, blobs: list[bytes]) -> Response:
    """Closes the connection in the middle of the body."""

    async def some() -> AsyncIterator[bytes]:
        yield b"{"
        raise ConnectionError("gone")

    return StreamingResponse(some(), headers={"content-length": "99999"})


def error(status: int, reason: str, **headers: str) -> Callable[[Any, list[bytes]], Response]:
    return lambda *_: JSONResponse({"error": reason}, status, headers)


FAULTS: dict[str, Callable[[Any, list[bytes]], Response]] = {
    "wrong-size": wrong_size,
    "truncated": lambda document, blobs: packed(document, [*blobs[:-1], blobs[-1][:-10]]),
    "surplus": lambda document, blobs: packed(document, [*blobs, b"more"]),
    "missing": lambda document, blobs: packed(
        document | {"outputs": document["outputs"][1:]}, blobs[1:]
    ),
    "renamed": with_first(name="somebody"),
    "twice": lambda document, blobs: packed(
        document | {"outputs": document["outputs"] * 2}, blobs * 2
    ),
    "grown-batch": grown_batch,
    "huge-shape": with_first(shape=[1 << 40, 1 << 40]),
    "negative-shape": with_first(shape=[-1, 4]),
    "deep-shape": with_first(shape=[1] * 40),
    "empty-and-huge": with_first(shape=[0, 1 << 62, 1 << 62]),
    "text": with_first(datatype="BYTES"),
    "bfloat": with_first(datatype="BF16"),
    "half": with_first(datatype="FP16"),
    "unknown": with_first(datatype="FP128"),
    "nan": not_a_number,
    "no-data": lambda document, _: packed(document | {"outputs": [{"name": "a"}]}, []),
    "long-head": lambda document, blobs: packed(document, blobs, **{HEADER: "999999999"}),
    "odd-head": lambda document, blobs: packed(document, blobs, **{HEADER: "-1"}),
    "html": lambda *_: Response("<html>Welcome</html>", media_type="text/html"),
    "list": lambda *_: JSONResponse([1, 2, 3]),
    "nothing": lambda *_: Response(b""),
    "error-200": error(200, "out of memory"),
    "400": error(400, "unexpected shape for input 'images'"),
    "404": error(404, "Request for unknown model"),
    "429": error(429, "slow down"),
    "500": error(500, "CUDA out of memory"),
    "503": error(503, "Exceeds maximum queue size", **{"Retry-After": "7"}),
    "broken": broken,
}


class Server:
    """The routes of a variant."""

    def __init__(self, variant: Variant, models: dict[str, Served]) -> None:
        self.variant, self.models = variant, models

    def routes(self) -> list[Route]:
        about, model = f"{self.variant.path}/v2", f"{self.variant.path}/v2/models/{{model}}"
        routes = [Route(f"{self.variant.path}/seen", self.seen), Route(about, self.about)]
        for path in (model, f"{model}/versions/1"):
            routes += [
                Route(path, self.metadata),
                Route(f"{path}/ready", self.ready),
                Route(f"{path}/config", self.config),
                Route(f"{path}/infer", self.infer, methods=["POST"]),
            ]
        return routes

    def model(self, request: Request) -> Served:
        if self.variant.token and request.headers.get("authorization") != self.variant.token:
            raise HTTPException(401, "missing token")
        name = request.path_params["model"]
        if name not in self.models:
            raise HTTPException(404, f"Request for unknown model: '{name}' is not found")
        return self.models[name]

    async def about(self, _: Request) -> Response:
        if self.variant.token:
            return Response("<html>Log in</html>", media_type="text/html")
        advertised = ["binary_tensor_data"] if self.variant.advertised else []
        extensions = ["classification", "model_configuration", *advertised]
        return JSONResponse({"name": "tests", "version": "1", "extensions": extensions})

    async def seen(self, _: Request) -> Response:
        return JSONResponse(self.variant.seen)

    async def metadata(self, request: Request) -> Response:
        if request.headers.get("misbehave") == "page":
            return Response("<html>Welcome</html>", media_type="text/html")
        return JSONResponse(self.model(request).metadata(bare=self.variant.bare))

    async def ready(self, request: Request) -> Response:
        if request.headers.get("misbehave") == "unready":
            return Response(status_code=400)
        return JSONResponse({"name": self.model(request).name, "ready": True})

    async def config(self, request: Request) -> Response:
        self.model(request)
        return JSONResponse({"max_batch_size": self.variant.max_batch or 0})

    async def infer(self, request: Request) -> Response:
        served, body = self.model(request), await request.body()
        name, tensor, document = read(body, request.headers, binary=self.variant.binary)
        headers = dict(request.headers)
        if self.variant.max_batch and tensor.shape[0] > self.variant.max_batch:
            raise HTTPException(
                400, f"a batch of {tensor.shape[0]} is over {self.variant.max_batch}"
            )
        self.variant.seen.append({"shape": tensor.shape, "binary": HEADER in headers} | headers)
        wrong = request.headers.get("misbehave", "")
        if wrong == "slow":
            await asyncio.sleep(30)
        wanted = [one["name"] for one in document.get("outputs", [])]
        outputs = await run_in_threadpool(served.infer, name, tensor, wanted)
        asked = document.get("parameters", {}).get("binary_data_output", False)
        answer = write(outputs, binary=asked and self.variant.binary)
        return FAULTS.get(wrong, packed)(*answer)


async def refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


def main() -> None:
    models = {}
    for name, _, file in (argument.partition("=") for argument in sys.argv[1:]):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        models[name] = Served(name, session)
    routes = [route for variant in variants() for route in Server(variant, models).routes()]
    app = Starlette(routes=routes, exception_handlers={HTTPException: refuse})
    # asyncio sets TCP_NODELAY only on sockets created with this protocol
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
