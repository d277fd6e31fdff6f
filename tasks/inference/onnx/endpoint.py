"""The endpoint of a model that runs in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from tasks.errors import EndpointTimeoutError, PermanentError, TransientError
from tasks.imagery import TilePixels
from tasks.inference.description import Description, PreparedTile
from tasks.inference.endpoint import Boxes, Pixels, Vector
from tasks.inference.onnx.session import Session
from tasks.inference.onnx.watchdog import Watchdog

_MAX_CALL_BYTES = 16 << 20  # of the input tensor of a call with several tiles
_GPU_BATCH = 8


class OnnxEndpoint:
    """An ONNX model, run by onnxruntime in the thread that calls `ask`.

    Attributes:
        tiles_per_call: Size of the model's batch dimension. If that is open, the number that the
            description suggests, otherwise 8 on a GPU and 1 on a CPU, where more are not faster;
            in both cases limited by the size of the input tensor.
        capacity: Number of concurrent calls that keep the machine busy.
    """

    local = True

    def __init__(self, session: Session, description: Description, timeout: float) -> None:
        """Set up, without running the model.

        Args:
            session: The model.
            description: Its inputs and outputs, for the image at hand.
            timeout: Seconds that a call may take.
        """
        self._session, self._description = session, description
        self._watchdog = Watchdog(timeout)
        suggested = description.properties.batch_size
        by_default = _GPU_BATCH if session.on_gpu else 1
        most = max(1, _MAX_CALL_BYTES // max(1, description.tile_bytes))
        self.tiles_per_call = description.batch or min(suggested or by_default, most)
        self.capacity: int | None = session.concurrency

    def prepare(self, tile: TilePixels) -> PreparedTile:
        """The model's input for a tile."""
        return self._description.prepare(tile)

    def ask(self, prepared: Sequence[PreparedTile]) -> list[Boxes] | list[Pixels] | list[Vector]:
        """The boxes that the model finds in each tile, its pixels, or its vector.

        Raises:
            EndpointTimeoutError: The model took longer than the timeout; the call was terminated.
            TransientError: The call was terminated by `close`.
            PermanentError: The model fails on these tiles.
            AnswerError: The description does not fit the outputs.
        """
        return self._description.decode(self._run(prepared), prepared)

    def close(self) -> None:
        """Terminate the calls in progress in other threads, at their next operator."""
        self._watchdog.close()

    def _run(self, prepared: Sequence[PreparedTile]) -> dict[str, NDArray[Any]]:
        if self._watchdog.closed:
            raise TransientError("The model was closed.")
        inputs = self._description.inputs(prepared)
        options = self._session.run_options()
        try:
            with self._watchdog.guard(options):
                return self._session.run(inputs, self._description.outputs, options)
        except Exception as error:
            if self._watchdog.closed:
                raise TransientError("The model was closed while it ran.") from error
            if options.terminate:
                raise EndpointTimeoutError(
                    f"The model took more than {self._watchdog.timeout:g} s."
                ) from error
            reason = " ".join(str(error).split())[:300]
            raise PermanentError(f"The model cannot be run on a tile: {reason}") from error
