"""Models in this process: an ONNX file, run by onnxruntime.

Needs the extra `onnx`. The description beside the file (`tasks.inference.description`) says what
the model takes and gives.
"""

from tasks.inference.onnx.endpoint import OnnxEndpoint
from tasks.inference.onnx.opening import open_onnx

__all__ = ["OnnxEndpoint", "open_onnx"]
