"""Validation errors as text for the sender of a message: field, value, remedy."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

_MAX_LINES = 20  # fits into a message attribute of SQS or SNS

# Ends of sentences by pydantic's type of error; `{…}` is filled from the error, or an example
_REMEDIES = {
    "string_type": "is not text; give a string in quotes{example}",
    "string_too_short": "is empty; give at least {min_length} character(s){example}",
    "string_too_long": "is longer than {max_length} characters; shorten it",
    "string_unicode": "is not valid Unicode; send UTF-8",
    "tuple_type": "is not a list; give one in [ ]{example}",
    "list_type": "is not a list; give one in [ ]{example}",
    "dict_type": "is not an object; give one in {{ }}{example}",
    "model_type": "is not an object; give one in {{ }}{example}",
    "model_attributes_type": "is not an object; give one in {{ }}{example}",
    "too_short": "is empty; give at least {min_length} of them{example}",
    "too_long": "has {actual_length} entries; give at most {max_length}",
    "enum": "is not one of {expected}; give one of these",
    "literal_error": "is not {expected}; give that",
    "union_tag_invalid": "is not one of {expected_tags}; give one of these",
    "greater_than": "is not above {gt:g}; give more",
    "greater_than_equal": "is below {ge:g}; give at least {ge:g}",
    "less_than_equal": "is above {le:g}; give at most {le:g}",
    "float_parsing": "is not a number; give one{example}",
    "finite_number": "is not a finite number; give one{example}",
    "path_type": "is not a path; give a string in quotes{example}",
    "float_type": "is not a number; give one{example}",
    "int_parsing": "is not a whole number; give digits alone",
    "int_from_float": "is not a whole number; give digits alone",
    "bool_parsing": "is neither true nor false; give one of these",
}
_NAMES_FIELD = re.compile(r"[a-z][A-Za-z.]*: ")  # an object's error that is one of its fields'
Location = tuple[int | str, ...]


def problem_lines(
    error: ValidationError, message: type[BaseModel], legacy: Sequence[str] = ()
) -> list[str]:
    """A validation error as text, a line for each problem: field, value, remedy.

    Args:
        error: The error that pydantic raised.
        message: The model that was validated; names and examples of fields are read from it.
        legacy: Names that the message accepts besides its fields.
    """
    found = [detail for detail in error.errors(include_url=False) if not _is_consequence(detail)]
    lines = [_line(detail, message, legacy) for detail in found[:_MAX_LINES]]
    if len(found) > _MAX_LINES:
        lines.append(f"… and {len(found) - _MAX_LINES} more")
    return lines


def _is_consequence(detail: ErrorDetails) -> bool:
    """Whether an error only follows from another, such as a list that lost its bad entries."""
    kind = detail["type"]
    return kind == "default_factory_not_called" or (kind == "too_short" and bool(detail["input"]))


def _line(detail: ErrorDetails, message: type[BaseModel], legacy: Sequence[str]) -> str:
    kind, location, value = detail["type"], detail["loc"], detail["input"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind.startswith("union_tag"):
        location = (*location, "type")
        value = value.get("type") if isinstance(value, dict) else value
    owners = _owners(message, location)
    example = _example(owners, location)
    if kind == "extra_forbidden":
        names = [*_names(owners), *(legacy if message in owners else ())]
        sentence = _unknown_field(str(location[-1]), names)
    elif kind in {"missing", "union_tag_not_found"}:
        sentence = f"missing; give it{example}"
    elif kind == "value_error":
        location = _by_alias(owners, location)
        subject = "" if isinstance(value, dict) else _short(value)
        sentence = f"{subject} {context['error']}"
    elif kind in _REMEDIES:
        sentence = f"{_short(value)} {_REMEDIES[kind].format(**context, example=example)}"
    else:
        sentence = f"{_short(value)} is refused ({detail['msg']}); correct it{example}"
    path = _path(location)
    if path and kind == "value_error" and _NAMES_FIELD.match(sentence.strip()):
        return f"{path}.{sentence.strip()}"
    return f"{path}: {sentence.strip()}" if path else sentence.strip()


def _models(annotation: object) -> list[type[BaseModel]]:
    """The pydantic models within a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _owners(message: type[BaseModel], location: Location) -> list[type[BaseModel]]:
    """The models that may have the last name of a location as a field."""
    owners = [message]
    for step in location[:-1]:
        fields = _fields(owners, step)
        if fields:
            owners = _models(fields[0].annotation)
        elif isinstance(step, str):  # the tag of a union selects one of its models
            owners = [owner for owner in owners if _has_tag(owner, step)] or owners
    return owners


def _fields(owners: list[type[BaseModel]], name: int | str) -> list[FieldInfo]:
    return [
        field
        for owner in owners
        for attribute, field in owner.model_fields.items()
        if (field.alias or attribute) == name
    ]


def _by_alias(owners: list[type[BaseModel]], location: Location) -> Location:
    """A location that ends with the name in the message, where pydantic gives the attribute's."""
    for owner in owners:
        field = owner.model_fields.get(str(location[-1])) if location else None
        if field is not None and field.alias is not None:
            return (*location[:-1], field.alias)
    return location


def _names(owners: list[type[BaseModel]]) -> list[str]:
    return [
        field.alias or attribute
        for owner in owners
        for attribute, field in owner.model_fields.items()
    ]


def _has_tag(owner: type[BaseModel], tag: str) -> bool:
    field = owner.model_fields.get("type")
    return field is not None and tag in get_args(field.annotation)


def _unknown_field(name: str, names: list[str]) -> str:
    by_lower = {known.lower(): known for known in names}
    # `tileSize` is short for `imageProcessorTileSize`, though it is nearer to `maxTiles`
    ending = [known for known in by_lower if name and known.endswith(name.lower())]
    near = ending or get_close_matches(name.lower(), by_lower, n=1)
    if near:
        return f"unknown field; did you mean {by_lower[near[0]]}?"
    return f"unknown field; remove it, or give one of {', '.join(names)}"


def _example(owners: list[type[BaseModel]], location: Location) -> str:
    fields = _fields(owners, location[-1]) if location else []
    examples = fields[0].examples if fields else None
    return f", for example {json.dumps(examples[0])}" if examples else ""


def _short(value: object) -> str:
    """A value for the beginning of a sentence, shortened; of a list or an object, only its kind."""
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    shorten = reprlib.Repr()
    shorten.maxstring = shorten.maxother = shorten.maxlong = 120
    return shorten.repr(value)


def _path(location: Location) -> str:
    """A location as text: `outputs[0].bucket`."""
    path = ""
    for index, step in enumerate(location):
        if isinstance(step, int):
            path += f"[{step}]"
        elif not _is_internal(location, index):
            plain = step.replace(":", "_").isidentifier()  # mlm:name
            name = step if plain else json.dumps(step[:60])
            path += f".{name}" if path else name
    return path


def _is_internal(location: Location, index: int) -> bool:
    """Whether a step is pydantic's and not a name in the message: a key's mark, an output's tag."""
    is_tag = index >= 2 and location[index - 2] == "outputs" and index < len(location) - 1
    return is_tag or location[index] == "[key]"
