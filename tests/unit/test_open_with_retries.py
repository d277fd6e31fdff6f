"""An endpoint that is only starting, or busy for a moment, is opened in the end."""

from collections.abc import Iterator
from typing import Any

import pytest

from tasks import inference
from tasks.errors import EndpointError, RequestError, ThrottledError, UnreachableError
from tasks.settings import settings


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("tasks.inference.retry._FIRST_WAIT", 0.01)
    monkeypatch.setenv("SWATH_ENDPOINT_PATIENCE", "0.5")
    settings.cache_clear()
    yield
    settings.cache_clear()


def opened(monkeypatch: pytest.MonkeyPatch, *outcomes: object) -> Any:
    """What comes of opening an endpoint that does so one time after the other."""
    left = iter(outcomes)

    def open_endpoint(*_: object) -> object:
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(inference, "open_endpoint", open_endpoint)
    return inference.open_with_retries(None, None)  # type: ignore[arg-type]


def test_it_is_asked_again_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    starting = [UnreachableError("refused"), ThrottledError("loading"), UnreachableError("refused")]
    assert opened(monkeypatch, *starting, "open") == "open"


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EndpointError, match="refused"):
        opened(monkeypatch, *[UnreachableError("refused")] * 1000)


def test_what_is_wrong_with_the_request_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="typo"):
        opened(monkeypatch, RequestError("typo"), "open")
