"""The request in Prefect's form of a run: required fields first, post-processing as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from tasks.request import Request

_AS_JSON = "postProcessing"  # with fields of its own, it would be half of the form


@dataclass(frozen=True)
class _FormSchema:
    """Arranges the JSON Schema of a request for the form; requests are validated as always."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema of `Request`, in the order and the detail of the form."""
        schema = dict(handler.resolve_ref_schema(handler(core_schema)))
        fields, required = schema["properties"], schema["required"]
        optional = {name: field for name, field in fields.items() if name not in required}
        folded = {key: optional[_AS_JSON][key] for key in ("title", "description")}
        optional[_AS_JSON] = folded | {"type": "array", "items": {"type": "object"}}
        schema["properties"] = {name: fields[name] for name in required} | optional
        return schema


RequestInForm = Annotated[Request, _FormSchema()]
"""A request that is a parameter of a flow."""
