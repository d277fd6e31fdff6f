"""An ONNX model in memory, run by onnxruntime."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import RequestError
from tasks.inference.description.load import ModelFile
from tasks.inference.description.signature import TensorSpec
from tasks.inference.onnx.external_weights import refuse_external_weights

logger = logging.getLogger(__name__)

MAX_MODEL_BYTES = 2**31 - 1
"""The largest message of protobuf, the format of ONNX files."""

_GPUS = ("CUDAExecutionProvider", "MIGraphXExecutionProvider", "ROCMExecutionProvider")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_GPU_CONCURRENCY = 2  # one call computes while the tensors of the other are copied
_NUMPY_NAMES = {"float": "float32", "double": "float64"}
_opening = Lock()


class Session:
    """A model in memory. Safe to use from several threads at once.

    Attributes:
        inputs: Type and shape of each input, by name.
        outputs: Type and shape of each output, by name.
        metadata: Texts that the model's exporter added, by key.
        on_gpu: Whether it runs on a GPU.
        concurrency: Number of concurrent calls that keep the machine busy.
    """

    def __init__(self, runtime: Any, session: Any) -> None:  # noqa: ANN401 - untyped
        self._runtime, self._session = runtime, session
        self.inputs = {each.name: _spec(each) for each in session.get_inputs()}
        self.outputs = {each.name: _spec(each) for each in session.get_outputs()}
        self.metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
        self.on_gpu = session.get_providers()[0] in _GPUS
        self.concurrency = _GPU_CONCURRENCY if self.on_gpu else len(os.sched_getaffinity(0))

    def run_options(self) -> Any:  # noqa: ANN401
        """New RunOptions for a call; setting their `terminate` to True ends it."""
        return self._runtime.RunOptions()

    def run(
        self,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        options: Any,  # noqa: ANN401
    ) -> dict[str, NDArray[Any]]:
        """Run the model.

        Args:
            inputs: The input tensors, by name.
            outputs: Names of the outputs to compute; empty for all.
            options: Options from `run_options`.

        Returns:
            The outputs, by name.
        """
        names = list(outputs or self.outputs)
        answers = self._session.run(names, inputs, options)
        return dict(zip(names, map(np.asarray, answers), strict=True))


def open_session(file: ModelFile, *, cpu_only: bool) -> Session:
    """The model of a file, which a process reads only once as long as it does not change.

    Args:
        file: The model.
        cpu_only: Whether to use no GPU.

    Raises:
        RequestError: The file cannot be read, is not a model that onnxruntime can run, or
            onnxruntime is not installed.
    """
    with _opening:
        return _open(file, cpu_only)


@lru_cache(2)
def _open(file: ModelFile, cpu_only: bool) -> Session:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it reports its use to its makers else
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RequestError(
            "imageProcessor.type: ONNX needs onnxruntime, which is not installed; install "
            "swath[onnx], or swath[gpu] where there is an NVIDIA GPU; of the container images, "
            "that of FLAVOUR=http is without it."
        ) from error
    model = file.read()
    if model.startswith(_LFS_POINTER):
        raise RequestError(
            f"{file.uri}: is a pointer of Git LFS, not the model itself; fetch it, with git lfs "
            "pull, in the repository that it is from."
        )
    refuse_external_weights(file.uri, model)
    gpus = [] if cpu_only else _gpu_providers(runtime)
    try:
        session = runtime.InferenceSession(
            model, _options(runtime), providers=[*gpus, "CPUExecutionProvider"]
        )
        opened = Session(runtime, session)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise RequestError(
            f"{file.uri}: onnxruntime {runtime.__version__} cannot run this model ({reason}); "
            "export it again, with standard operators only."
        ) from error
    if gpus and not opened.on_gpu:
        logger.warning(
            "%s runs on the CPU: onnxruntime %s has %s, but it cannot be used here; is there a GPU "
            "with a driver, and are the libraries of CUDA and cuDNN installed?",
            *(file.uri, runtime.__version__, gpus[0]),
        )
    return opened


def _gpu_providers(runtime: Any) -> list[str]:  # noqa: ANN401
    """The providers of onnxruntime for GPUs, once their libraries are loaded."""
    available = runtime.get_available_providers()
    found = [provider for provider in _GPUS if provider in available]
    if "CUDAExecutionProvider" in found:
        runtime.preload_dlls()  # of CUDA and cuDNN, where they are Python packages
    return found


def _options(runtime: Any) -> Any:  # noqa: ANN401
    """Options for one thread per call and as many concurrent calls as CPUs.

    On two CPUs that gave 117 tiles/s of YOLOX-nano. Two threads per call gave 80 and, because
    threads spin while they wait, used twice the CPU time. The memory arena stays enabled: without
    it, peak memory was 241 MB, not 139 MB.
    """
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors reach the user as exceptions, not in a log
    # `refuse_external_weights` understands no other format
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _spec(node: Any) -> TensorSpec:  # noqa: ANN401
    element = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(side if isinstance(side, int) else None for side in node.shape)
    return TensorSpec(_NUMPY_NAMES.get(element, element), shape)
