"""A model in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from tasks.errors import EndpointTimeoutError, PermanentError, TransientError
from tasks.imagery import TilePixels
from tasks.inference.description import Description, Prepared
from tasks.inference.endpoint import Boxes
from tasks.inference.onnx.session import Session
from tasks.inference.onnx.watch import Watch

_MOST_BYTES = 16 << 20  # of the tensors of a call
_BATCH_OF_A_GPU = 8


class OnnxEndpoint:
    """An ONNX model, run by onnxruntime in the thread that asks.

    Attributes:
        tiles_per_call: As many as its batch axis has room for; where that has no end, what its
            description suggests, else 1 on processors, which gain nothing by more.
        capacity: Calls that keep the machine busy.
    """

    local = True

    def __init__(self, session: Session, description: Description, timeout: float) -> None:
        """Run nothing yet.

        Args:
            session: The model.
            description: What it takes and gives, for the image at hand.
            timeout: Seconds that a call may take.
        """
        self._session, self._description = session, description
        self._watch = Watch(timeout)
        suggested = description.properties.batch_size
        by_default = _BATCH_OF_A_GPU if session.on_gpu else 1
        most = max(1, _MOST_BYTES // max(1, description.tile_bytes))
        self.tiles_per_call = description.batch or min(suggested or by_default, most)
        self.capacity: int | None = session.calls

    def prepare(self, tile: TilePixels) -> Prepared:
        """The model's input for a tile."""
        return self._description.prepare(tile)

    def ask(self, prepared: Sequence[Prepared]) -> list[Boxes]:
        """The boxes that the model finds in each of a few tiles.

        Raises:
            EndpointTimeoutError: The model took too long; it was ended.
            TransientError: It was ended by `close`.
            PermanentError: It cannot be run on them.
            AnswerError: What it answered is not what its description says.
        """
        return self._description.decode(self._run(prepared), prepared)

    def close(self) -> None:
        """End the calls under way in other threads at their next operator."""
        self._watch.close()

    def _run(self, prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
        if self._watch.closed:
            raise TransientError("The model was closed.")
        inputs = self._description.inputs(prepared)
        call = self._session.call_options()
        try:
            with self._watch.over(call):
                return self._session.run(inputs, self._description.outputs, call)
        except Exception as error:
            if self._watch.closed:
                raise TransientError("The model was ended while it ran.") from error
            if call.terminate:
                raise EndpointTimeoutError(
                    f"The model took more than {self._watch.timeout:g} s."
                ) from error
            reason = " ".join(str(error).split())[:300]
            raise PermanentError(f"The model cannot be run on a tile: {reason}") from error
