"""What is wrong with the variables `SWATH_…` of the environment, in words."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def settings_problem(error: ValueError) -> str:
    """The variable, the place in it, the value, and the remedy; empty for any other error."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    if isinstance(error, SettingsError):
        found = re.search(r'field "(\w+)"', str(error))
        if found is None:
            return ""
        variable = _variable(found[1])
        return _no_json(variable, os.environ.get(variable, ""), error.__cause__, "list_type")
    if not isinstance(error, ValidationError) or error.title != "Settings":
        return ""
    from tasks.request.validation_errors import problem_lines
    from tasks.settings import Settings

    lines = _not_json(error) or problem_lines(error, Settings)
    return "\n".join(re.sub(r"^\w+", lambda found: _variable(found[0]), line) for line in lines)


def _not_json(error: ValidationError) -> list[str]:
    """A line for each setting whose text is not JSON; Pydantic calls it no object or no list."""
    lines = []
    for detail in error.errors(include_url=False):
        value, kind = detail["input"], detail["type"]
        if isinstance(value, str) and kind in {"model_type", "list_type"}:
            try:
                json.loads(value)
            except ValueError as cause:
                field = detail["loc"][0]
                lines.append(_no_json(str(field), value, cause, kind))
    return lines


def _no_json(name: str, value: str, cause: BaseException | None, kind: str) -> str:
    form = 'a list such as ["a", "b"]' if kind == "list_type" else 'an object such as {"a": 1}'
    return f"{name}: {value!r:.100} is not JSON ({cause}); give {form}."


def _variable(field: str) -> str:
    return f"SWATH_{field.upper()}"
