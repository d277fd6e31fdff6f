"""Real-time and serverless endpoints of SageMaker: one InvokeEndpoint a tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.errors import AnswerError
from tasks.imagery import TilePixels
from tasks.inference.endpoint import JsonText
from tasks.inference.http import check_media_type
from tasks.inference.sagemaker.payload import PayloadLimit
from tasks.inference.sagemaker.wire import Wire
from tasks.inference.transport import Response

_OK = 200


class SageMakerEndpoint:
    """A model behind InvokeEndpoint that answers with a FeatureCollection."""

    tiles_per_call = 1
    local = False

    def __init__(
        self,
        name: str,
        *,
        encode: Callable[[TilePixels], bytes],
        arguments: Mapping[str, Any],
        wire: Wire,
        limit: PayloadLimit,
        capacity: int | None,
    ) -> None:
        """Open no connection yet.

        Args:
            name: Of the endpoint.
            encode: Makes the body of a tile's pixels.
            arguments: Of InvokeEndpoint, its name and body apart.
            wire: Calls AWS; closed with the endpoint.
            limit: Of a tile's bytes.
            capacity: Calls that it takes at a time; None where only trying tells.
        """
        self.prepare, self.capacity = encode, capacity
        self._where = f"SageMaker endpoint {name}"
        self._arguments = {**arguments, "EndpointName": name}
        self._wire, self._limit = wire, limit

    def ask(self, prepared: Sequence[bytes]) -> Sequence[object]:
        """The model's answer for one tile.

        Raises:
            EndpointError: As `tasks.inference.sagemaker.failures` tells; PermanentError for a
                tile that is too large.
            AnswerError: The body is too long, or says that it is no JSON.
        """
        (body,) = prepared
        self._limit.check(len(body))
        told = self._wire.call(
            "sagemaker-runtime", "invoke_endpoint", self._where, **self._arguments, Body=body
        )
        return [json_of(self._where, told)]

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()


def json_of(where: str, told: Mapping[str, Any]) -> JsonText:
    """An answer.

    Args:
        where: Who gave it, for the error's sake.
        told: Its `Body`, in bytes, and `ContentType`.

    Raises:
        AnswerError: It says that it is no JSON.
    """
    try:
        check_media_type(Response(_OK, {"content-type": told.get("ContentType", "")}, b""))
    except AnswerError as error:
        raise AnswerError(f"{where}: {error}") from error
    return JsonText(where, told["Body"])
