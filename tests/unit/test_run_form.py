"""The schema by which Prefect's pages make the form of a run."""

from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from flows.image import image
from flows.region import region
from tasks.request import Request

IMAGE, REGION = (parameter_schema(flow).model_dump() for flow in (image, region))
FORM = IMAGE["properties"]["request"]
MESSAGE = Request.model_json_schema(by_alias=True)
LEAST = {
    "jobId": "job-1",
    "imageUrls": ["s3://images/scene.tif"],
    "outputs": [{"type": "S3", "bucket": "results", "prefix": "ships"}],
    "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
}


def test_the_required_fields_come_first() -> None:
    names = list(FORM["properties"])
    assert set(names[: len(FORM["required"])]) == set(FORM["required"])
    assert set(names) == set(MESSAGE["properties"])


def test_post_processing_is_one_field_of_json() -> None:
    field = FORM["properties"]["postProcessing"]
    assert (field["type"], field["items"]) == ("array", {"type": "object"})
    assert field["description"] == MESSAGE["properties"]["postProcessing"]["description"]


def test_the_other_fields_are_those_of_the_message() -> None:
    for name, field in MESSAGE["properties"].items():
        if name != "postProcessing":
            assert FORM["properties"][name].get("description") == field.get("description"), name
    assert FORM["additionalProperties"] is False


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"imageBands": [4, "red", "2"], "imageAlpha": "ignore", "imageFill": -1.5},
        {"imageScaling": {"type": "percentile"}, "imageResolution": 0.5},
        {"imageScaling": {"type": "linear", "minimum": 0, "maximum": [900.5]}},
        {"imageScaling": {"type": "z-score", "mean": [1, 2], "stddev": [3, 4]}},
        {"tileOutput": {"values": "embedding", "size": 768}},
        {"tileOutput": {"values": "logits", "classes": ["a", "b"], "allScores": True}},
        {"postProcessing": [{"algorithm": {"algorithmType": "NMM", "measure": "IOS"}}]},
    ],
)
def test_prefect_accepts_a_message_as_it_is_sent_and_as_it_is_written_whole(
    fields: dict[str, Any],
) -> None:
    """The server holds the parameters of a run against the schema of its deployment."""
    sent = LEAST | fields
    written = Request.model_validate(sent).model_dump(mode="json")
    for message in (sent, written):
        validate({"request": message}, IMAGE, raise_on_error=True)
        validate({"request": message}, REGION, raise_on_error=True, ignore_required=True)
        assert Request.model_validate(message) == Request.model_validate(sent)
