"""Models in this process: an ONNX file, run by onnxruntime.

Needs the extra `onnx`. The description of the model (`tasks.inference.description`) says how a tile
becomes its input and how its outputs become boxes or a map.
"""

from tasks.inference.onnx.endpoint import OnnxEndpoint
from tasks.inference.onnx.opening import open_onnx

__all__ = ["OnnxEndpoint", "open_onnx"]
