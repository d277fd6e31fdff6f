"""Files of models that Swath does not run, and how each becomes one that it does."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_TORCH = (
    'torch.onnx.export(model, torch.zeros(1, 3, 640, 640), "{stem}.onnx"), in the Python code that '
    "makes the model"
)
_ORIGINAL = "export the model that it was made from to ONNX"
_TENSORFLOW = "pip install tf2onnx; python -m tf2onnx.convert"

_EXPORTS = {
    ".pt": "yolo export model={path} format=onnx imgsz=640 (of Ultralytics); for other models of "
    f"PyTorch, {_TORCH}",
    ".pth": _TORCH,
    ".ckpt": _TORCH,
    ".safetensors": "optimum-cli export onnx --model FOLDER {stem}, or " + _TORCH,
    ".torchscript": f"{_ORIGINAL}: yolo export model={{stem}}.pt format=onnx imgsz=640 (of "
    f"Ultralytics), or {_TORCH}",
    ".engine": f"it runs on one kind of GPU only; {_ORIGINAL}: yolo export model={{stem}}.pt "
    "format=onnx imgsz=640 (of Ultralytics); or serve it with Triton, as OIP_ENDPOINT",
    ".plan": f"it runs on one kind of GPU only; {_ORIGINAL}, or serve it with Triton, as "
    "OIP_ENDPOINT",
    ".tflite": f"{_TENSORFLOW} --tflite {{path}} --output {{stem}}.onnx",
    ".pb": f"{_TENSORFLOW} --saved-model FOLDER --output {{stem}}.onnx",
    ".h5": f"{_TENSORFLOW} --keras {{path}} --output {{stem}}.onnx",
    ".keras": f"{_TENSORFLOW} --keras {{path}} --output {{stem}}.onnx",
    ".mlpackage": _ORIGINAL,
    ".xml": f"{_ORIGINAL}, or serve it with OpenVINO Model Server, as OIP_ENDPOINT",
    ".yaml": "it has no weights: train the model, then yolo export model=best.pt format=onnx "
    "imgsz=640",
    ".data": "it has only weights: give the .onnx file beside it",
    ".json": "it only describes a model: give the .onnx file beside it",
}
_ALIKE = {".yml": ".yaml", ".trt": ".engine", ".mlmodel": ".mlpackage", ".jit": ".torchscript"}

_WEB_FILE = re.compile(r"https?://[^?#]*\.(onnx|pt)([?#]|$)", re.IGNORECASE)


def is_web_file(name: str) -> bool:
    """Whether a name is the web address of a model's file, and not of an endpoint."""
    return _WEB_FILE.match(name) is not None


def export_remedy(name: str) -> str | None:
    """What to do with a model's file so that Swath can run it.

    Args:
        name: Path or URL of the file.

    Returns:
        The command, in words; None for an ONNX file, and for what is no file of a model.
    """
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    remedy = _EXPORTS.get(_ALIKE.get(suffix, suffix))
    return None if remedy is None else remedy.format(path=name, stem=path.stem)
