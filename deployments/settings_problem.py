"""What is wrong with the variables `SWATH_…` of the environment, in words."""

from __future__ import annotations

import re


def settings_problem(error: ValueError) -> str:
    """The variable, the place in it, the value, and what is wrong; empty for any other error."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    if isinstance(error, SettingsError):
        name = re.search(r'field "(\w+)"', str(error))
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        return f"{_variable(name[1])}: is not JSON{cause}; correct it." if name else ""
    if not isinstance(error, ValidationError) or error.title != "Settings":
        return ""
    lines = []
    for detail in error.errors(include_url=False):
        field, *path = map(str, detail["loc"])
        place = ".".join([_variable(field), *path])
        lines.append(f"{place}: {detail['input']!r:.100} is refused: {detail['msg']}.")
    return "\n".join(lines)


def _variable(field: str) -> str:
    return f"SWATH_{field.upper()}"
