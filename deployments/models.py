"""`swath models`: lists the built-in models, and what else may be given as a model."""

from __future__ import annotations

import inspect

_OTHERS = """\
Your own, for --model (docs/models.md):
  model.onnx                in this process: a detector of Ultralytics as it is exported, any other
                            model of objects or pixels with a description: swath models describe
  http://…                  a server of your own that answers with GeoJSON, or with a raster
  http://…/v2/models/NAME   Triton, KServe, OpenVINO Model Server
  NAME --type SM_ENDPOINT   an endpoint of SageMaker"""


def list_models() -> None:
    """Print the built-in models with their parameters, and the other kinds of model."""
    from tasks.inference.builtin import MODELS

    print("Built in, for trying things out (--model NAME, --parameter NAME=VALUE):")
    width = max(map(len, MODELS)) + 2
    for name, model in MODELS.items():
        summary = inspect.cleandoc(model.__doc__ or "").splitlines()[0]
        print(f"  {name:<{width}}{summary}")
        if model.model_fields:
            print(f"  {'':<{width}}parameters: {', '.join(model.model_fields)}")
    print(_OTHERS)
