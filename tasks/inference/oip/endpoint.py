"""Models behind the Open Inference Protocol: KServe, Triton, OpenVINO Model Server, and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import AnswerError, PermanentError, RequestError
from tasks.imagery import TilePixels
from tasks.inference.description import Description, Prepared
from tasks.inference.endpoint import Boxes
from tasks.inference.http import headers
from tasks.inference.oip.fit import check_fit
from tasks.inference.oip.messages import (
    JSON_LENGTH,
    check_answered,
    is_binary,
    read_outputs,
    write_request,
)
from tasks.inference.oip.metadata import ServedModel, ask_about
from tasks.inference.secrets import reveal
from tasks.inference.transport import Transport

_MOST_BYTES = 16 * 1024 * 1024  # of a call's tensors: many calls are in flight at a time
_OURS = {
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    JSON_LENGTH.lower(),
}


class OipEndpoint:
    """A model that takes a tensor made of each tile, and answers with tensors.

    Attributes:
        url: Where tensors are posted to.
        tiles_per_call: As many as the model takes in a batch, by its server and its description.
    """

    capacity: int | None = None
    local = False

    def __init__(
        self,
        name: str,
        description: Description,
        parameters: Mapping[str, Any],
        sample: TilePixels,
        timeout: float,
    ) -> None:
        """Ask the server about the model, and hold that against the description.

        Args:
            name: URL of the model: http(s)://host[:port][/base]/v2/models/NAME[/versions/V].
            description: Makes tensors of tiles, and boxes of tensors.
            parameters: Sent as headers: the protocol defines no parameters of its own, what
                authorises is a header, and Triton makes parameters of headers where its operator
                lets it.
            sample: A tile like all that will come; what is in its pixels does not matter.
            timeout: Seconds that a call may take in all.

        Raises:
            RequestError: There is no such model, or it does not take what is made of a tile; or a
                secret that a parameter names is not to be had, or not for it.
            EndpointError: The server does not answer, or has the model not ready yet.
        """
        revealed = reveal(parameters, name)
        self._headers = _headers(revealed.parameters)
        self._description = description
        inputs = description.inputs([description.prepare(sample)])
        self._transport = Transport(timeout, revealed.secrets)
        try:
            served = ask_about(name, self._headers, self._transport)
            check_fit(served, inputs, description.outputs)
        except BaseException:
            self._transport.close()
            raise
        self.url = f"{served.url}/infer"
        self.tiles_per_call = _tiles_per_call(served, description, inputs)
        self._wanted = description.outputs or tuple(output.name for output in served.outputs)
        # JSON has no form for halves
        halves = any(tensor.dtype == np.float16 for tensor in inputs.values())
        self._binary = served.binary or halves

    def prepare(self, tile: TilePixels) -> Prepared:
        """The tensor that is made of a tile."""
        return self._description.prepare(tile)

    def ask(self, prepared: Sequence[Prepared]) -> Sequence[Boxes]:
        """What the model sees on each of a few tiles.

        Raises:
            EndpointError: As `tasks.inference.transport` and `tasks.inference.http_status` tell;
                PermanentError where a tile cannot be sent.
            AnswerError: The reply is none of the protocol's, or not whole, or not this model's.
        """
        inputs = self._description.inputs(prepared)
        try:
            told, body = write_request(inputs, self._wanted, binary=self._binary)
        except ValueError as error:
            raise PermanentError(f"{self.url}: the tile cannot be sent: {error}.") from error
        reply = self._transport.post(self.url, self._headers | told, body)
        check_answered(self.url, reply)
        # who answers in bytes takes them, whether its metadata say so (Triton) or not (KServe)
        self._binary = self._binary or is_binary(reply)
        try:
            outputs = read_outputs(reply, self._wanted)
            if len(prepared) > 1:  # of one image, models may give outputs without a batch axis
                _check_rows(outputs, self._description.batch or len(prepared))
            return self._description.decode(outputs, prepared)
        except AnswerError as error:
            raise AnswerError(f"{self.url}: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def _check_rows(outputs: Mapping[str, NDArray[Any]], batch: int) -> None:
    """Refuse outputs with other than a row for each tile that was sent."""
    for name, output in outputs.items():
        if output.shape[:1] != (batch,):
            raise AnswerError(
                f"The output {name!r} has the shape {output.shape} for a batch of {batch}: its "
                "first side is not the batch."
            )


def _headers(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as headers, but for those that the protocol's messages have themselves."""
    for name in parameters:
        if name.lower() in _OURS:
            raise RequestError(
                f"imageProcessorParameters.{name}: is set by the Open Inference Protocol itself; "
                "remove it."
            )
    return headers(parameters)


def _tiles_per_call(
    served: ServedModel, description: Description, inputs: Mapping[str, NDArray[Any]]
) -> int:
    """Tiles that go in one call; one, where nobody says that the model takes more."""
    if description.batch:  # a call is of as many in any case: what lacks is filled up
        return description.batch
    told = (served.most, description.properties.batch_size)
    most = min((limit for limit in told if limit), default=1)
    size = sum(tensor.nbytes for tensor in inputs.values())
    return max(1, min(most, _MOST_BYTES // size))
