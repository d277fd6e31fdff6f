"""The base class of every object of the message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from pydantic.fields import ComputedFieldInfo, FieldInfo

_SPELLING = {"id": "ID", "iou": "IoU", "urls": "URLs"}


def _title(name: str, _: FieldInfo | ComputedFieldInfo) -> str:
    """The title of a field in forms: "Image URLs" for `image_urls`."""
    words = " ".join(_SPELLING.get(word, word) for word in name.split("_"))
    return words[0].upper() + words[1:]


class MessageObject(BaseModel):
    """An object of the message: frozen, camelCase in JSON and snake_case here, no unknown names."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        field_title_generator=_title,
        serialize_by_alias=True,
        allow_inf_nan=False,
    )

    wanted_if_empty: ClassVar[frozenset[str]] = frozenset()
    """Fields whose empty object means one with all its defaults."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:  # noqa: ANN401 - any JSON value
        """Drop null and empty values of optional fields, as OSML's producers expect."""
        if not isinstance(data, Mapping):
            return data
        optional = {field.alias for field in cls.model_fields.values() if not field.is_required()}
        return {
            name: value
            for name, value in data.items()
            if name not in optional
            or not _is_empty(value)
            or (name in cls.wanted_if_empty and value is not None)
        }


def _is_empty(value: object) -> bool:
    """Whether a value is null, or an empty string, list or object."""
    return value is None or (isinstance(value, str | list | tuple | dict) and len(value) == 0)
