"""Printing what changes: once, or again and again until it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.text import Text

_INTERVAL = 2.0  # seconds between two looks


@dataclass(frozen=True)
class View:
    """What is to be seen at a moment.

    Attributes:
        text: For people, or a JSON object in a line.
        ended: Whether nothing of it will change any more.
    """

    text: str
    ended: bool


def show(look: Callable[[], View], *, watch: bool) -> None:
    """Print a view on standard output.

    Args:
        look: Makes the view.
        watch: Whether to print it again when it has changed, until it has ended. A terminal shows
            the last one only.
    """
    sink = Console(highlight=False, markup=False, soft_wrap=True)
    view = look()
    if not watch:
        print(view.text)
        return
    if not sink.is_terminal:
        print(view.text, flush=True)
        while not view.ended:
            time.sleep(_INTERVAL)
            before, view = view, look()
            if view.text != before.text:
                print(view.text, flush=True)
        return
    try:
        with Live(_folded(view), console=sink, auto_refresh=False, transient=True) as live:
            while not view.ended:
                time.sleep(_INTERVAL)
                view = look()
                live.update(_folded(view), refresh=True)
    finally:
        print(view.text)  # the last one whole, also what the screen had no room for


def _folded(view: View) -> Text:
    """A view whose lines go on in the next one where the terminal ends."""
    return Text(view.text, overflow="fold", no_wrap=False)
