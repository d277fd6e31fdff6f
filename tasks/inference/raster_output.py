"""What a model answers with in pixels, where its description says so and a request does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tasks.errors import RequestError
from tasks.inference.builtin import RASTER_OUTPUTS
from tasks.inference.description import Description
from tasks.raster.tile_maps import band_count
from tasks.request import EndpointType, RasterOutput, Request
from tasks.request.message import describe_errors


def resolve_raster_output(request: Request, description: Description | None) -> Request:
    """The request, with all that its model's description says of its `rasterOutput`.

    What the request gives itself counts. A model without a description is left as it is.

    Args:
        request: The message.
        description: That of its model; None for one that has none.

    Raises:
        RequestError: The description does not go with what the request gives; or nobody says what
            the numbers of a raster are.
    """
    described = _described(description) if description else _builtin(request)
    given = request.raster_output
    if described is None:
        if given is not None and (given.values is None or description is not None):
            raise RequestError(_unwanted(request) if description else _MISSING)
        _check_activation(given)
        return request
    whole = request.model_dump(mode="json", exclude_unset=True)
    own = {} if given is None else given.model_dump(mode="json", exclude_unset=True)
    try:
        resolved = Request.model_validate(whole | {"rasterOutput": {**described, **own}})
    except ValidationError as error:
        name = request.image_processor.name
        raise RequestError(f"{describe_errors(error)} (see the description of {name})") from None
    _check_bands(resolved, RasterOutput.model_validate(described))
    _check_activation(resolved.raster_output)
    return resolved


_MISSING = (
    "rasterOutput.values: is missing; say what the numbers of the raster are: classes, "
    "probabilities, logits or values."
)


def _unwanted(request: Request) -> str:
    return (
        f"rasterOutput: the description of {request.image_processor.name} says that it does not "
        "answer with pixels; leave it out, or describe the raster in swath:raster."
    )


def _check_activation(output: RasterOutput | None) -> None:
    """Check that a pixel may have another class than the one that there is, or none."""
    if output is None or output.several or not output.has_probabilities:
        return
    if len(output.classes) == 1:
        raise RequestError(
            "rasterOutput.classes: has one class, which every pixel has with the activation "
            "softmax; give the activation sigmoid, for pixels with it or without, or all classes."
        )


def _check_bands(request: Request, described: RasterOutput) -> None:
    """Check that a request takes the model to have the bands that its description says."""
    bands = band_count(described)
    given = bands if request.raster_output is None else band_count(request.raster_output)
    if given != bands:
        raise RequestError(
            f"rasterOutput: describes {given} band{'' if given == 1 else 's'}, and by its "
            f"description {request.image_processor.name} answers with {bands} "
            f"({described.values}); leave out values, classes and bands, or correct the "
            "description."
        )


def _described(description: Description) -> dict[str, Any] | None:
    """The fields of `rasterOutput` by a description; None for a model that finds objects."""
    properties = description.properties
    head = properties.raster
    if head is None:
        return None
    classes = [
        {"value": one.value, "name": one.name}
        | ({"colour": f"#{one.color_hint}"} if one.color_hint else {})
        for one in properties.classes
    ]
    fields = {
        "values": head.values,
        "classes": classes,
        "activation": head.activation,
        "threshold": head.threshold,
        "bands": head.names,
        "unit": head.unit,
        "nodata": head.nodata,
        "fullTiles": description.full_tiles,
    }
    return {name: value for name, value in fields.items() if value not in (None, (), [])}


def _builtin(request: Request) -> Mapping[str, Any] | None:
    """The fields of `rasterOutput` of a built-in model that answers with pixels."""
    if request.image_processor.type is not EndpointType.BUILTIN:
        return None
    return RASTER_OUTPUTS.get(request.image_processor.name)
