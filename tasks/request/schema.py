"""The JSON Schema of the message, for producers and forms."""

from __future__ import annotations

from typing import Any

from tasks.request.message import Request
from tasks.request.outputs import LEGACY


def request_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the message, with the names in JSON.

    It describes what a producer should send. `Request.parse` also accepts numbers in quotes and
    null or empty values of optional fields, and refuses what a schema cannot express (an invalid
    URL, an overlap as large as the tile).
    """
    schema = Request.model_json_schema(by_alias=True)
    for name in LEGACY:
        schema["properties"][name] = {
            "type": "string",
            "title": name,
            "deprecated": True,
            "description": "Older way to name one S3 output; use outputs.",
        }
    schema["required"].remove("outputs")
    schema["anyOf"] = [{"required": ["outputs"]}, {"required": list(LEGACY)}]
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **schema, "title": "Swath request"}
