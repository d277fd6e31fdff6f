"""Test models that come with Swath, called in this process or over HTTP.

`endpoint.py` finds a model by name and calls it in this process; `deployments.model_server` serves
the same models over HTTP. A model is called with a tile's pixels and returns a GeoJSON
FeatureCollection or a raster. The fields of its class are its parameters: entries of
`imageProcessorParameters` or, over HTTP, headers or query parameters.
"""

from tasks.inference.builtin.endpoint import (
    MODELS,
    RASTER_OUTPUTS,
    TILE_OUTPUTS,
    BuiltinEndpoint,
    Model,
    create_model,
)

__all__ = ["MODELS", "RASTER_OUTPUTS", "TILE_OUTPUTS", "BuiltinEndpoint", "Model", "create_model"]
