"""What a model answered, as the form that a test expects of it."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.inference.endpoint import Boxes, Pixels


def boxes(answers: Sequence[object]) -> list[Boxes]:
    """The answers of a model that finds objects."""
    found = [answer for answer in answers if isinstance(answer, Boxes)]
    assert len(found) == len(answers)
    return found


def pixels(answers: Sequence[object]) -> list[Pixels]:
    """The answers of a model that answers with pixels."""
    found = [answer for answer in answers if isinstance(answer, Pixels)]
    assert len(found) == len(answers)
    return found
