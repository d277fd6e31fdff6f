"""An ONNX model in memory, run by onnxruntime."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import RequestError
from tasks.inference.description.source import Source
from tasks.inference.onnx.weights import check_weights

LARGEST = 2**31 - 1
"""Bytes of a model: what its format, protobuf, can hold."""

_GPUS = ("CUDAExecutionProvider", "MIGraphXExecutionProvider", "ROCMExecutionProvider")
_CALLS_OF_A_GPU = 2  # one runs while the other's tensors are on their way
_DTYPES = {"float": "float32", "double": "float64"}
_opening = Lock()


@dataclass(frozen=True, slots=True)
class Slot:
    """An input or output of a model.

    Attributes:
        dtype: numpy's name of its type, or onnxruntime's where numpy has none.
        shape: Sizes, None for any.
    """

    dtype: str
    shape: tuple[int | None, ...]


class Session:
    """A model in memory, for several threads at once.

    Attributes:
        inputs: By name.
        outputs: By name.
        on_gpu: Whether it runs on a GPU.
        calls: That keep the machine busy.
    """

    def __init__(self, runtime: Any, session: Any) -> None:  # noqa: ANN401 - untyped
        self._runtime, self._session = runtime, session
        self.inputs = {each.name: _slot(each) for each in session.get_inputs()}
        self.outputs = {each.name: _slot(each) for each in session.get_outputs()}
        self.on_gpu = session.get_providers()[0] in _GPUS
        self.calls = _CALLS_OF_A_GPU if self.on_gpu else len(os.sched_getaffinity(0))

    def call_options(self) -> Any:  # noqa: ANN401
        """Options of calls; setting their `terminate` ends those under way."""
        return self._runtime.RunOptions()

    def run(
        self,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        options: Any,  # noqa: ANN401
    ) -> dict[str, NDArray[Any]]:
        """The outputs of those names, or all where none is named."""
        names = list(outputs or self.outputs)
        answers = self._session.run(names, inputs, options)
        return dict(zip(names, map(np.asarray, answers), strict=True))


def open_session(source: Source, *, cpu_only: bool) -> Session:
    """The model of a file, read once a process as long as it stays the same.

    Args:
        source: The file.
        cpu_only: Whether GPUs are left alone.

    Raises:
        RequestError: It cannot be read or is no model that onnxruntime runs; or onnxruntime is not
            installed.
    """
    with _opening:
        return _open(source, cpu_only)


@lru_cache(2)
def _open(source: Source, cpu_only: bool) -> Session:
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RequestError(
            "imageProcessor.type: ONNX needs onnxruntime, which is not installed; install "
            "swath[onnx], or onnxruntime-gpu where there is a GPU."
        ) from error
    model = source.read()
    check_weights(source.uri, model)
    there = runtime.get_available_providers()
    gpus = [] if cpu_only else [provider for provider in _GPUS if provider in there]
    try:
        session = runtime.InferenceSession(
            model, _options(runtime), providers=[*gpus, "CPUExecutionProvider"]
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise RequestError(
            f"{source.uri}: is no model that onnxruntime {runtime.__version__} runs ({reason}); "
            "export it again, with standard operators alone."
        ) from error
    return Session(runtime, session)


def _options(runtime: Any) -> Any:  # noqa: ANN401
    """A thread a call, and as many calls as processors: on two, 117 tiles/s of YOLOX-nano.

    Two threads a call gave 80 and, with threads that spin while they wait, burnt twice the
    processor time. The arena of memory is on: without it, peak memory was 241 MB in place of 139.
    """
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong with a model is told by an exception
    options.add_session_config_entry("session.load_model_format", "ONNX")  # the one that is checked
    return options


def _slot(node: Any) -> Slot:  # noqa: ANN401
    element = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(side if isinstance(side, int) else None for side in node.shape)
    return Slot(_DTYPES.get(element, element), shape)
