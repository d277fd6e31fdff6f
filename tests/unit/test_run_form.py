"""The schema by which Prefect's pages make the form of a run."""

from prefect.utilities.callables import parameter_schema

from flows.image import image
from tasks.request import Request

FORM = parameter_schema(image).model_dump()["properties"]["request"]
MESSAGE = Request.model_json_schema(by_alias=True)


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
