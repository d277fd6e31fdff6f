"""The Open Inference Protocol (KServe v2) over REST, with Triton's binary tensor data extension.

The protocol is at https://github.com/kserve/open-inference-protocol. A server receives and returns
tensors, so the description of the model (`tasks.inference.description`) says how a tile becomes an
input tensor and how output tensors become boxes, as for ONNX files.
"""

from tasks.inference.oip.endpoint import OipEndpoint
from tasks.inference.oip.opening import open_oip

__all__ = ["OipEndpoint", "open_oip"]
