"""JSON with exact integers of any size: orjson reads those of more than 64 bits as floats.

`loads` and `dumps` give what orjson gives where no integer has more than 64 bits.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

_KINDS = bytes.maketrans(b"123456789:,[-\t\n\r", b"0" * 9 + b" " * 7)
_LONG = b" " + b"0" * 19  # as many digits as 2^63; what stands before an integer, not a fraction
_LOWEST, _HIGHEST = -(1 << 63), (1 << 64) - 1  # that orjson reads and writes


def loads(text: bytes | str) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a JSON object or list.

    Beside a long integer, NaN and lone surrogates are accepted, as Python's own reader does.

    Raises:
        ValueError: The text is not JSON, is nested too deep, or has an integer of more than 4300
            digits.
    """
    body = text.encode() if isinstance(text, str) else text
    if _LONG not in body.translate(_KINDS):
        return orjson.loads(body)
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deep") from None


def dumps(value: object, option: int | None = None) -> bytes:
    """A value as JSON.

    Args:
        value: To be written.
        option: Options of orjson.

    Raises:
        TypeError: The value is none that orjson writes.
        ValueError: An integer has more than 4300 digits.
    """
    try:
        return orjson.dumps(value, option=option)
    except TypeError as error:
        try:
            return orjson.dumps(_with_text(value), option=option)
        except RecursionError:
            raise error from None


def _with_text(value: object) -> object:
    """A value with the text of long integers in their place."""
    if isinstance(value, dict):
        return {name: _with_text(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_text(inner) for inner in value]
    if isinstance(value, int) and not _LOWEST <= value <= _HIGHEST:
        return orjson.Fragment(str(value))
    return value
