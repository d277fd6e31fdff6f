"""`swath models`: lists the built-in models, and what else may be given as a model."""

from __future__ import annotations

import inspect

_OTHERS = """\
Your own, for --model (docs/models.md):
  model.onnx                a detector in this process; of Ultralytics as it is exported, any other
                            with a description: swath models describe model.onnx
  http://…                  a server of your own that answers with GeoJSON
  http://…/v2/models/NAME   Triton, KServe, OpenVINO Model Server
  NAME --type SM_ENDPOINT   an endpoint of SageMaker"""


def list_models() -> None:
    """Print the built-in models with their parameters, and the other kinds of model."""
    from tasks.inference.builtin import MODELS

    print("Built in, for trying things out (--model NAME, --parameter NAME=VALUE):")
    for name, model in MODELS.items():
        summary = inspect.cleandoc(model.__doc__ or "").splitlines()[0]
        print(f"  {name:<16}{summary}")
        if model.model_fields:
            print(f"  {'':<16}parameters: {', '.join(model.model_fields)}")
    print(_OTHERS)
