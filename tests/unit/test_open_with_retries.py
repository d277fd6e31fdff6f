"""An endpoint that is starting or overloaded is opened after a few retries."""

from collections.abc import Iterator
from typing import Any

import pytest

from tasks import inference
from tasks.errors import EndpointError, RequestError, ThrottledError, UnreachableError
from tasks.settings import settings


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("tasks.inference.retry._FIRST_DELAY", 0.01)
    monkeypatch.setattr("tasks.inference.retry._LONGEST_DELAY", 0.1)
    monkeypatch.setenv("SWATH_ENDPOINT_PATIENCE", "0.5")
    settings.cache_clear()
    yield
    settings.cache_clear()


def opened(monkeypatch: pytest.MonkeyPatch, *outcomes: object) -> Any:
    """The result of opening an endpoint whose attempts have these outcomes, in order."""
    left = iter(outcomes)

    def open_endpoint(*_: object) -> object:
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(inference, "open_endpoint", open_endpoint)
    return inference.open_with_retries(None, None)  # type: ignore[arg-type]


def test_opening_is_retried_while_the_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    starting = [UnreachableError("refused"), ThrottledError("loading"), UnreachableError("refused")]
    assert opened(monkeypatch, *starting, "open") == "open"


def test_the_retries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EndpointError, match="refused"):
        opened(monkeypatch, *[UnreachableError("refused")] * 1000)


def test_an_error_in_the_request_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="typo"):
        opened(monkeypatch, RequestError("typo"), "open")
