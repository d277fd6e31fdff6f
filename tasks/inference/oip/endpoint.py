"""The endpoint of a model on KServe, Triton, OpenVINO Model Server, or another OIP server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import AnswerError, PermanentError, RequestError
from tasks.imagery import TilePixels
from tasks.inference.description import Description, PreparedTile
from tasks.inference.description.fit import check_fit, check_map
from tasks.inference.endpoint import Boxes, Pixels, Vector
from tasks.inference.endpoint_hosts import check_host, checked_addresses
from tasks.inference.http import headers
from tasks.inference.oip.messages import (
    JSON_LENGTH,
    check_response,
    is_binary,
    read_outputs,
    write_request,
)
from tasks.inference.oip.metadata import ServedModel, fetch_model
from tasks.inference.secrets import reveal
from tasks.inference.transport import MAX_ANSWER_BYTES, Transport

_MAX_CALL_BYTES = 15 << 20  # of a call's tensors: an answer may have 16 MiB in all
_JSON_LENGTH = 6  # times its bytes in binary that a number may take in JSON
_RESERVED_HEADERS = {
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    JSON_LENGTH.lower(),
}


class OipEndpoint:
    """A served model that takes tensors made of tiles, and answers with tensors.

    Attributes:
        url: URL that tensors are posted to.
        tiles_per_call: Tiles per batch, as the server and the description allow.
    """

    capacity: int | None = None
    local = False

    def __init__(
        self,
        name: str,
        description: Description,
        parameters: Mapping[str, Any],
        sample: PreparedTile,
        timeout: float,
    ) -> None:
        """Fetch the model's metadata from the server, and check the description against it.

        Args:
            name: URL of the model: http(s)://host[:port][/base]/v2/models/NAME[/versions/V].
            description: The model's inputs and outputs, for the image at hand.
            parameters: Sent as headers: the protocol defines no parameters of its own,
                authorization is a header, and Triton can be configured to turn headers into
                parameters.
            sample: A tile prepared as all others will be; its values do not matter.
            timeout: Seconds that a call may take in total.

        Raises:
            RequestError: Requests may not call the URL, there is no such model, it does not take
                tensors of this kind, or a secret that a parameter names does not exist or may not
                be sent to this URL.
            EndpointError: The server does not answer, or the model is not ready yet.
            AnswerError: The server's answer cannot be read.
        """
        check_host(name)
        revealed = reveal(parameters, name)
        self._headers = _headers(revealed.parameters)
        self._description = description
        inputs = description.inputs([sample])
        map_bytes = description.map_bytes(sample)
        longest = _JSON_LENGTH * map_bytes * (description.batch or 1)
        self._transport = Transport(
            timeout, revealed.secrets, checked_addresses, max(MAX_ANSWER_BYTES, longest)
        )
        try:
            served = fetch_model(name, self._headers, self._transport)
            check_fit(description, sample, served.url, served.inputs, served.outputs)
            check_map(description, sample, served.outputs)
        except BaseException:
            self._transport.close()
            raise
        self.url = f"{served.url}/infer"
        tile_bytes = max(sum(tensor.nbytes for tensor in inputs.values()), map_bytes)
        self.tiles_per_call = _tiles_per_call(served, description, tile_bytes)
        self._wanted = description.outputs or tuple(served.outputs)
        # JSON cannot carry FP16
        needs_binary = any(tensor.dtype == np.float16 for tensor in inputs.values())
        self._binary = served.binary or needs_binary

    def prepare(self, tile: TilePixels) -> PreparedTile:
        """The tensor made of a tile."""
        return self._description.prepare(tile)

    def ask(self, prepared: Sequence[PreparedTile]) -> Sequence[Boxes | Pixels | Vector]:
        """The boxes that the model finds in each tile, its pixels, or its vector.

        Raises:
            EndpointError: See `Transport.send` and `check_response`; PermanentError if a tile
                cannot be sent.
            AnswerError: The response does not follow the protocol, is incomplete, or has outputs
                that the description does not fit.
        """
        inputs = self._description.inputs(prepared)
        try:
            content_headers, body = write_request(inputs, self._wanted, binary=self._binary)
        except ValueError as error:
            raise PermanentError(f"{self.url}: the tile cannot be sent: {error}.") from error
        response = self._transport.post(self.url, self._headers | content_headers, body)
        check_response(self.url, response)
        # a server that answers in binary also accepts binary; KServe's metadata do not say so
        self._binary = self._binary or is_binary(response)
        try:
            outputs = read_outputs(response, self._wanted)
            if len(prepared) > 1:  # for a single tile, outputs may lack the batch dimension
                _check_rows(outputs, self._description.batch or len(prepared))
            return self._description.decode(outputs, prepared)
        except AnswerError as error:
            raise AnswerError(f"{self.url}: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def _check_rows(outputs: Mapping[str, NDArray[Any]], batch: int) -> None:
    """Check that outputs have one row per tile of the batch."""
    for name, output in outputs.items():
        if output.shape[:1] != (batch,):
            raise AnswerError(
                f"The output {name!r} has the shape {output.shape} for a batch of {batch}: its "
                "first dimension is not the batch."
            )


def _headers(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as headers; those that the protocol sets itself are refused."""
    for name in parameters:
        if name.lower() in _RESERVED_HEADERS:
            raise RequestError(
                f"imageProcessorParameters.{name}: is set by the Open Inference Protocol itself; "
                "remove it."
            )
    return headers(parameters)


def _tiles_per_call(served: ServedModel, description: Description, tile_bytes: int) -> int:
    """Tiles per call: 1 unless the description or the server says that the model takes more.

    Args:
        served: The model.
        description: Its description.
        tile_bytes: Bytes of the tensors of a tile, those that are sent or those of the answer.
    """
    if description.batch:  # the batch has this size in any case; missing tiles are zeros
        return description.batch
    limits = (served.max_batch_size, description.properties.batch_size)
    most = min((limit for limit in limits if limit), default=1)
    return max(1, min(most, _MAX_CALL_BYTES // tile_bytes))
