"""Models that come with Swath, for trying and testing a pipeline: in process or over HTTP.

`endpoint.py` finds a model by name and calls it in process; `deployments.models` serves the same
models over HTTP. A model is called with a tile's pixels and answers as any endpoint does. The
fields of its class are its parameters; they come from `imageProcessorParameters`, over HTTP as
headers or query.
"""

from tasks.inference.builtin.endpoint import MODELS, BuiltinEndpoint, Model, create_model

__all__ = ["MODELS", "BuiltinEndpoint", "Model", "create_model"]
