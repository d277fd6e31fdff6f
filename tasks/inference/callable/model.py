"""A Python function as a model, and the endpoint that calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, wait
from contextlib import suppress
from functools import partial
from numbers import Integral
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import AnswerError, PermanentError, RequestError, TransientError
from tasks.imagery import Image, TilePixels
from tasks.inference.callable.answers import read_batch, read_rasters, read_vectors

if TYPE_CHECKING:
    from tasks.request import Request

Function = Callable[[NDArray[Any]], Any]
"""Takes a batch of tiles (n, bands, height, width) in the pixel type of the image; returns n
answers, one a tile, in a form that `answers.read_batch` understands; for rasters
`answers.read_rasters`, for whole tiles `answers.read_vectors`."""

_Answers = Future[list[object]]


class CallableModel:
    """A Python function as a model.

    Attributes:
        name: Name of the function.
        error: What the function first raised; None if it never did.
    """

    def __init__(
        self,
        function: Function,
        *,
        batch_size: int = 8,
        class_names: Sequence[str] | Mapping[int, str] | None = None,
    ) -> None:
        """Check the arguments, without calling the function.

        Args:
            function: The model.
            batch_size: Maximum number of tiles in one call.
            class_names: Name of each class number; None if the model names its classes itself, or
                the numbers are to be the names.

        Raises:
            RequestError: `batch_size` is not a number above 0, or a name is no text.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise RequestError(f"batch_size: {batch_size!r} is not 1 or more; give tiles a call.")
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self.error: Exception | None = None
        self._function, self._batch_size = function, batch_size
        self._names = None if class_names is None else _by_number(class_names)

    def open(self, request: Request, image: Image) -> CallableEndpoint:  # noqa: ARG002
        """The endpoint: of the request it depends on whether the answers are rasters or vectors."""
        if request.raster_output is not None:
            return CallableEndpoint(partial(self._call, read_rasters), self._batch_size)
        if request.tile_output is not None:
            return CallableEndpoint(partial(self._call, read_vectors), self._batch_size)
        read = lambda answer, tiles: read_batch(answer, tiles, self._names)
        return CallableEndpoint(partial(self._call, read), self._batch_size)

    def _call(
        self, read: Callable[[object, int], list[object]], tiles: NDArray[Any]
    ) -> list[object]:
        """The answer for each tile of a batch, as `read` reads them.

        Raises:
            PermanentError: The function raised an error; it is not called again for these tiles.
            AnswerError: Its answer cannot be read.
        """
        count = len(tiles)  # the function may change the array
        try:
            answer = self._function(tiles)
        except Exception as error:
            self.error = self.error or error
            reason = " ".join(str(error).split())[:300]
            raise PermanentError(f"{self.name}: {type(error).__name__}: {reason}") from error
        try:
            return read(answer, count)
        except Exception as error:  # any: a generator may raise, and so may what it returned
            self.error = self.error or error
            kind = "" if isinstance(error, AnswerError) else f"{type(error).__name__}: "
            raise AnswerError(f"{self.name}: {kind}{error}") from error


class CallableEndpoint:
    """Calls a function with one batch of tiles after the other, in one thread of its own.

    Functions are rarely made to be called from several threads at a time. The process may end while
    the thread still runs, for the thread is a daemon, which those of an executor are not.

    Attributes:
        tiles_per_call: Maximum number of tiles in a batch.
    """

    local = True
    capacity: int | None = 1

    def __init__(self, call: Callable[[NDArray[Any]], list[object]], tiles_per_call: int) -> None:
        """Set up, without a call."""
        self.tiles_per_call = tiles_per_call
        self._call = call
        self._waiting: SimpleQueue[tuple[_Answers, NDArray[Any]] | None] = SimpleQueue()
        self._closed: Future[None] = Future()
        Thread(target=self._work, name="model", daemon=True).start()

    def prepare(self, tile: TilePixels) -> NDArray[Any]:
        """A contiguous copy of the tile's pixels, so that the strip's memory can be reused."""
        return np.array(tile.pixels, order="C")

    def ask(self, prepared: Sequence[NDArray[Any]]) -> list[object]:
        """The answer for each tile.

        Raises:
            TransientError: The endpoint was closed; a function that still runs is not waited for.
            PermanentError: The function raised an error.
            AnswerError: Its answer cannot be read.
        """
        if self._closed.done():
            raise TransientError("The model was closed.")
        call: _Answers = Future()
        self._waiting.put((call, np.stack(prepared)))
        either: list[Future[Any]] = [call, self._closed]
        wait(either, return_when=FIRST_COMPLETED)
        if not call.done():
            raise TransientError("The model was closed while it ran.")
        return call.result()

    def close(self) -> None:
        """End the call in progress for its caller: nothing can end the function itself."""
        with suppress(InvalidStateError):  # it is closed already
            self._closed.set_result(None)
        self._waiting.put(None)

    def _work(self) -> None:
        """Call the function for one batch after the other, until the endpoint is closed."""
        while (waiting := self._waiting.get()) and not self._closed.done():
            call, tiles = waiting
            try:
                call.set_result(self._call(tiles))
            except BaseException as error:  # SystemExit, too, is for the caller
                call.set_exception(error)


def _by_number(names: Sequence[str] | Mapping[int, str]) -> dict[int, str]:
    listed = isinstance(names, Iterable) and not isinstance(names, str)
    given = dict(names) if isinstance(names, Mapping) else dict(enumerate(names if listed else ()))
    if not listed or not all(
        isinstance(number, Integral) and isinstance(name, str) for number, name in given.items()
    ):
        raise RequestError(
            f"class_names: {names!r} is not a list of names, nor a dict of names by class number; "
            "give for example ['ship', 'barge'] or {1: 'ship'}."
        )
    return given
