"""Checks that a request filters by classes that its model has."""

from __future__ import annotations

from difflib import get_close_matches

from tasks.errors import RequestError
from tasks.inference.description.description import Description
from tasks.request import Algorithm

_MAX_LISTED = 20  # classes in a message; some models have thousands


def check_classes(algorithm: Algorithm, description: Description) -> None:
    """Check that the model has all classes that a request keeps or gives a threshold.

    Raises:
        RequestError: It does not have one of them.
    """
    known = [one.name for one in description.properties.classes]
    for field in ("classes", "classThresholds"):
        named = algorithm.classes if field == "classes" else algorithm.class_thresholds
        for name in named:
            if name not in known:
                raise RequestError(
                    f"postProcessing[0].algorithm.{field}: {name!r} is not a class of the model by "
                    f"its description {description.uri}; {_remedy(name, known)}"
                )


def _remedy(name: str, known: list[str]) -> str:
    by_lower = {each.lower(): each for each in known}
    if near := get_close_matches(name.lower(), by_lower, n=1):
        return f"did you mean {by_lower[near[0]]!r}?"
    listed = ", ".join(known[:_MAX_LISTED])
    more = f" and {len(known) - _MAX_LISTED} more" if len(known) > _MAX_LISTED else ""
    return f"its classes are {listed}{more}."
