"""The polygons that a message may ask for, and the errors that say what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.errors import RequestError
from tasks.request import Request

CLASSES = [{"value": 0, "name": "clear"}, {"value": 1, "name": "cloud"}]


def parse(polygons: Any, **raster: Any) -> Request:
    message = {
        "jobId": "job-1",
        "imageUrls": ["s3://images/harbour.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "harbour/"}],
        "imageProcessor": {"name": "clouds"},
        "rasterOutput": {
            "values": "probabilities",
            "classes": CLASSES,
            "polygons": polygons,
            **raster,
        },
    }
    return Request.parse(json.dumps(message))


def test_polygons_are_exact_and_of_all_classes_unless_a_message_says_otherwise() -> None:
    output = parse({}).raster_output
    assert output is not None
    assert output.polygons is not None
    assert output.polygons.model_dump(by_alias=True) == {
        "minimumArea": 0,
        "largestHole": 0,
        "tolerance": 0,
        "rightAngles": False,
        "classes": (),
    }


@pytest.mark.parametrize(
    ("polygons", "raster", "message"),
    [
        (
            {"classes": ["cloud", "clouds"]},
            {},
            "rasterOutput.polygons.classes: names 'clouds', which is not one of the classes; give",
        ),
        ({}, {"values": "classes", "classes": []}, "rasterOutput.classes: is missing"),
        ({}, {"values": "values", "classes": []}, "rasterOutput.polygons: needs classes, prob"),
        ({"minimumArea": -1}, {}, "rasterOutput.polygons.minimumArea: -1 is below 0"),
        ({"largestHole": "16 px"}, {}, "rasterOutput.polygons.largestHole: "),
        ({"tolerance": -0.5}, {}, "rasterOutput.polygons.tolerance: -0.5 is below 0"),
        ({"rightAngles": 7}, {}, "rasterOutput.polygons.rightAngles: "),
        ({"minArea": 4}, {}, "rasterOutput.polygons.minArea"),
    ],
)
def test_a_wrong_wish_is_refused_with_its_remedy(
    polygons: dict[str, Any], raster: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError) as error:
        parse(polygons, **raster)
    assert message in str(error.value)


def test_classes_that_a_description_gives_are_not_needed_in_the_message() -> None:
    parse({"classes": ["cloud"]}, values=None, classes=[])
