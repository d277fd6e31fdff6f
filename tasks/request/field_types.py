"""The types of the message's fields, each with its check.

A check raises ValueError with the end of a sentence, "is not …; give …";
`tasks.request.validation_errors` puts the field's name and the value before it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from tasks.request.secret_references import find_references

# Keys that Prefect interprets wherever they stand in the parameters of a run
_PREFECT_KEYS = frozenset({"$ref", "__prefect_kind"})
_MAX_DEPTH = 32
_LONGEST_NAME = 200
_MAX_INTEGER = 2**63  # what the JSON of Prefect's API can carry


def printable(text: str) -> str:
    """Check that a text has no character that breaks log lines, S3 keys or HTTP headers.

    Raises:
        ValueError: It holds a control character, a line separator or half of a surrogate pair.
    """
    for index, character in enumerate(text):
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
            raise ValueError(
                f"holds the control character U+{ord(character):04X} at position {index}; remove it"
            )
    return text


def _trimmed(text: str) -> str:
    if text != text.strip():
        raise ValueError("begins or ends with a space; remove it")
    return text


def _one_segment(text: str) -> str:
    """Check that a name can be one segment of a key or a path."""
    if "/" in text or "\\" in text or text in {".", ".."}:
        raise ValueError("cannot be a part of a path; give a name without slashes, not . or ..")
    return text


def _whole(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """An integer; "1024" and 1024.0 are accepted too, as by OSML."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("is not a whole number; give digits alone")  # noqa: TRY004 - for pydantic
    return value


def _number(value: Any) -> Any:  # noqa: ANN401
    """A finite number; "0.5" is accepted too, true and false are not."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("is not a finite number; give one, such as 0.5")
    return number if isinstance(value, str) else value


def _parameter_name(text: str) -> str:
    if text in _PREFECT_KEYS or not re.fullmatch(r"[0-9A-Za-z!#$%&'*+.^_`|~-]{1,256}", text):
        raise ValueError(
            "is not a parameter's name; give the name of an argument of InvokeEndpoint or of an "
            "HTTP header (letters, digits, hyphens)"
        )
    return text


def _text_or_number(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("is neither text nor a number; give one of these, in quotes if need be")  # noqa: TRY004
    _check_scalar(value)
    if isinstance(value, str):
        list(find_references(value))  # raises for a malformed reference
    return printable(value) if isinstance(value, str) else value


def _portable(value: Any, depth: int = 0) -> Any:  # noqa: ANN401
    """Check that a value survives JSON and the parameters of a Prefect run unchanged."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"is nested deeper than {_MAX_DEPTH} levels; flatten it")
    if isinstance(value, dict):
        reserved = _PREFECT_KEYS & value.keys()
        if reserved:
            raise ValueError(f"holds the name {min(reserved)}, reserved by Prefect; rename it")
        value = {_portable(name): _portable(item, depth + 1) for name, item in value.items()}
    elif isinstance(value, list | tuple):
        value = [_portable(item, depth + 1) for item in value]
    else:
        _check_scalar(value)
    return value


def _check_scalar(value: Any) -> None:  # noqa: ANN401
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("holds half of a surrogate pair; send valid Unicode")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"holds {value}, which JSON does not have; leave it out or give null")
    if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
        raise ValueError("holds an integer of more than 64 bits; give it as a string")


def _band(value: Any) -> Any:  # noqa: ANN401
    """A band's number, from 1, or its name; "4" is a number too."""
    if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
        if not 0 < len(value) <= _LONGEST_NAME:
            raise ValueError(f"is not a name of 1 to {_LONGEST_NAME} characters; give the band's")
        return _trimmed(printable(value))
    number = _whole(value)
    if number < 1:
        raise ValueError("is not a band; give its number, from 1, or its name")
    return number


_OWNER = "owner"


def is_owner(name: str) -> bool:
    """Whether a tag of this name says whose job it is: owner, or Owner, or OWNER."""
    return name.lower() == _OWNER


def owner_of(tags: Mapping[str, str]) -> str | None:
    """Whose job it is by its tags; None if they name nobody."""
    return next((value for name, value in tags.items() if is_owner(name)), None)


def _tag_text(text: str) -> str:
    """Check that a text can be in a tag of AWS, as the tasks of a job are tagged with its tags."""
    if not re.fullmatch(r"[\w .:/=+@-]+", text):
        raise ValueError("cannot be in a tag; give letters, digits, spaces and . : / = + - @ _")
    return text


def _tags(tags: dict[str, str]) -> dict[str, str]:
    if reserved := [name for name in tags if name.lower().startswith(("aws:", "swath:"))]:
        raise ValueError(f"holds the reserved name {reserved[0]!r}; give another")
    owners = [name for name in tags if is_owner(name)]
    if len(owners) > 1:
        raise ValueError(f"holds {owners[0]!r} and {owners[1]!r}, both of them the owner; give one")
    return tags


def _role(text: str) -> str:
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}", text, re.ASCII):
        raise ValueError(
            "is not the ARN of an IAM role; give one like arn:aws:iam::123456789012:role/NAME"
        )
    return text


WholeNumber = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Text = Annotated[str, AfterValidator(printable)]
Name = Annotated[
    str,
    Field(min_length=1, max_length=_LONGEST_NAME),
    AfterValidator(printable),
    AfterValidator(_trimmed),
]
Band = Annotated[int | str, BeforeValidator(_band)]
HIGHEST_PRIORITY = 100
"""That of a job; the lowest is as far below 0, which is the default."""

Priority = Annotated[WholeNumber, Field(ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY)]
_TagName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    AfterValidator(_tag_text),
    AfterValidator(_trimmed),
]
_TagValue = Annotated[
    str,
    Field(min_length=1, max_length=256),
    AfterValidator(_tag_text),
    AfterValidator(_trimmed),
]
Tags = Annotated[dict[_TagName, _TagValue], Field(max_length=20), AfterValidator(_tags)]
JobId = Annotated[Name, AfterValidator(_one_segment)]
ClassName = Annotated[Text, Field(min_length=1, max_length=1000)]
ScoreByClass = Annotated[
    dict[ClassName, Annotated[Number, Field(ge=0, le=1)]], BeforeValidator(_portable)
]
RoleArn = Annotated[str, AfterValidator(_role)]
ParameterName = Annotated[str, AfterValidator(_parameter_name)]
ParameterValue = Annotated[str | int | float, BeforeValidator(_text_or_number)]
Properties = Annotated[dict[str, Any], BeforeValidator(_portable)]
