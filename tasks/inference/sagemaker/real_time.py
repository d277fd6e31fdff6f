"""Real-time and serverless endpoints of SageMaker: one InvokeEndpoint for each tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.imagery import TilePixels
from tasks.inference.endpoint import JsonText, RasterFile
from tasks.inference.http import answer_of
from tasks.inference.sagemaker.aws_client import AwsClient
from tasks.inference.sagemaker.payload import PayloadLimit
from tasks.inference.transport import Response

_OK = 200


class SageMakerEndpoint:
    """A model behind InvokeEndpoint that answers with features or a raster."""

    tiles_per_call = 1
    local = False

    def __init__(
        self,
        name: str,
        *,
        encode: Callable[[TilePixels], bytes],
        arguments: Mapping[str, Any],
        aws: AwsClient,
        limit: PayloadLimit,
        capacity: int | None,
    ) -> None:
        """Open no connection yet.

        Args:
            name: Name of the endpoint.
            encode: Encodes a tile as the body of a call.
            arguments: Arguments of InvokeEndpoint, except its name and body.
            aws: Calls AWS; closed with the endpoint.
            limit: The largest tile that the endpoint accepts.
            capacity: Calls that it takes at a time; None if unknown.
        """
        self.prepare, self.capacity = encode, capacity
        self._where = f"SageMaker endpoint {name}"
        self._arguments = {**arguments, "EndpointName": name}
        self._aws, self._limit = aws, limit

    def ask(self, prepared: Sequence[bytes]) -> Sequence[object]:
        """The model's answer for one tile.

        Raises:
            EndpointError: See `AwsClient.call`; PermanentError for a tile that is too large.
            AnswerError: The body is too long, or its media type is that of no answer.
        """
        (body,) = prepared
        self._limit.check(len(body))
        result = self._aws.call(
            "sagemaker-runtime", "invoke_endpoint", self._where, **self._arguments, Body=body
        )
        return [result_answer(self._where, result)]

    def close(self) -> None:
        """Close the connections."""
        self._aws.close()


def result_answer(where: str, result: Mapping[str, Any]) -> JsonText | RasterFile:
    """The answer in a result of an operation of AWS.

    Args:
        where: The endpoint, as messages name it.
        result: The operation's result, with `Body` in bytes and `ContentType`.

    Raises:
        AnswerError: The media type is that of no answer.
    """
    content_type = result.get("ContentType", "")
    return answer_of(where, Response(_OK, {"content-type": content_type}, result["Body"]))
