"""The answer of a built-in model: a GeoJSON FeatureCollection in pixels of the tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def feature(
    model: str,
    box: Sequence[float],
    *,
    iri: str,
    score: float,
    geometry: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One detection.

    Args:
        model: Name of the model, also used as the name of its ontology.
        box: x_min, y_min, x_max, y_max in tile pixels, corner-origin.
        iri: Class of the object.
        score: Confidence, 0 to 1.
        geometry: GeoJSON geometry in tile pixels, corner-origin; None if the box is all.
    """
    properties: dict[str, Any] = {
        "imageBBox": [float(side) for side in box],
        "featureClasses": [{"iri": iri, "score": float(score)}],
        "modelMetadata": {"modelName": model, "ontologyName": model, "ontologyVersion": "1.0.0"},
    }
    if geometry is not None:
        properties["imageGeometry"] = geometry
    return {"type": "Feature", "geometry": None, "properties": properties}


def collection(features: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The answer for a tile, with the features in the order given."""
    return {"type": "FeatureCollection", "features": list(features)}
