"""Strict parsing of a message as JSON: what cannot be kept exactly is refused."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from tasks.errors import RequestError


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object (RFC 8259; what the RFC only recommends is required here).

    Raises:
        RequestError: It is not JSON, not an object, has a duplicate name, or holds a number that
            JSON does not have.
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_names,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
    except json.JSONDecodeError as error:
        raise RequestError(
            f"message: not JSON, {error.msg} at line {error.lineno} column {error.colno}; send "
            "one JSON object"
        ) from None
    except UnicodeDecodeError as error:
        raise RequestError(f"message: not UTF-8 at byte {error.start}; send UTF-8 text") from None
    except RecursionError:
        raise RequestError("message: nested too deeply; flatten it") from None
    except ValueError:  # more digits than Python's limit for integers
        raise RequestError(
            "message: holds an integer of too many digits; give it as a string"
        ) from None
    if not isinstance(value, dict):
        raise RequestError(f"message: {text[:40]!r} is not a JSON object; send {{…}}")
    return value


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise RequestError(f"{name[:60]!r}: given twice in one object; give it once")
    return value


def _refuse_constant(name: str) -> float:
    raise RequestError(f"message: {name} is not a number of JSON; leave it out or give null")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise RequestError(f"message: {digits[:40]} is too large a number; give a smaller one")
    return number
