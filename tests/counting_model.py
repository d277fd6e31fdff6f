"""Models that count their calls, in a process of their own, and fail as a test tells them to.

Each name in the URL is a model of its own, with its own counts and faults. A call is known by a
hash of its body, so that calls for the same tile can be counted whoever made them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4


@dataclass(frozen=True)
class Figures:
    """What happened to the calls of a model.

    Attributes:
        calls: Number of calls for each tile, by a hash of the body.
        answered: Calls that were answered, faults included.
        in_flight: Calls that wait for their answer.
        abandoned: Calls whose client hung up before the answer.
    """

    calls: dict[str, int]
    answered: int
    in_flight: int
    abandoned: int

    @property
    def total(self) -> int:
        """All calls."""
        return sum(self.calls.values())

    @property
    def extra(self) -> int:
        """Calls beyond one for each tile."""
        return self.total - len(self.calls)


@dataclass(frozen=True)
class CountingModel:
    """One model of the server.

    Attributes:
        url: Where calls are posted.
    """

    url: str

    def figures(self) -> Figures:
        """The figures so far."""
        return Figures(**self._control({}))

    def answer_only(self, calls: int) -> None:
        """Answer so many further calls; hold those after them until `answer_all`."""
        self._control({"permits": calls})

    def answer_all(self) -> None:
        """Answer the held calls and all later ones."""
        self._control({"permits": None})

    def answer_with_pixels(self) -> None:
        """Answer with the probabilities of two classes, dark and bright, instead of features."""
        self._control({"pixels": True})

    def answer_in_any_order(self, slowest: float) -> None:
        """Take up to so many seconds for a call, a time of its own for each."""
        self._control({"slowest": slowest})

    def fail(
        self,
        answer: str = "status",
        *,
        times: int | None = None,
        tiles: int | None = None,
        **options: Any,
    ) -> None:
        """Answer otherwise than with what is in the tile.

        Args:
            answer: `status`, `hang up`, `late`, `huge`, or a name that `body_of` of
                `tests/counting_server.py` knows.
            times: Number of calls; None without an end.
            tiles: Only calls for that many tiles, the first ones that are asked for; None for all.
            options: Of `status`, `status` and `headers`; of `late`, `seconds`.
        """
        fault = {"answer": answer, "times": times, "tiles": tiles} | options
        self._control({"fault": fault})

    def work(self) -> None:
        """Forget the faults."""
        self._control({"fault": None})

    def _control(self, change: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url.replace("/invocations", "/control"), json.dumps(change).encode()
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            figures: dict[str, Any] = json.load(reply)
            return figures


@dataclass(frozen=True)
class CountingModels:
    """A running server.

    Attributes:
        address: Its URL.
        process: Its process.
    """

    address: str
    process: subprocess.Popen[str]

    def model(self, name: str | None = None) -> CountingModel:
        """A model; a new one unless the name has been used."""
        return CountingModel(f"{self.address}/{name or uuid4().hex[:8]}/invocations")


@contextmanager
def counting_models() -> Iterator[CountingModels]:
    """A running server of counting models."""
    command = [sys.executable, "-m", "tests.counting_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield CountingModels(f"http://127.0.0.1:{process.stdout.readline().strip()}", process)
        finally:
            process.kill()
