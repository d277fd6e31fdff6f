"""Records of runs in Prefect: metrics as labels, and queries that read all pages."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from math import isfinite
from threading import Lock
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.context import SettingsContext, get_settings_context
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.types import KeyValueLabels

_PREFIX = "swath."
_TIMEOUT = 10.0  # seconds in which Prefect must answer a call of these clients
_LABELS = Lock()
_PAGE = 200  # rows in one answer of Prefect's server, at the most

PREFECT_ERRORS = (httpx.HTTPError, PrefectException, ValueError)
"""What Prefect's client raises if the server refuses or does not answer.

ValueError is among them because a proxy may answer for the server, with a page that is not JSON.
"""

NOT_ACCEPTED = frozenset(
    {
        httpx.codes.CONFLICT,
        httpx.codes.REQUEST_ENTITY_TOO_LARGE,
        httpx.codes.UNPROCESSABLE_ENTITY,
    }
)
"""Status codes of Prefect for a request that it never accepts: its parameters do not fit the
deployment's schema, it is too large, or it is not valid."""

_BUSY = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS}

T = TypeVar("T")


def may_answer_later(error: Exception) -> bool:
    """Whether Prefect could not be reached, or was too busy to answer a call."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status in _BUSY or status >= httpx.codes.INTERNAL_SERVER_ERROR
    return isinstance(error, httpx.TransportError)


@contextmanager
def log_errors(what: str) -> Iterator[None]:
    """Log an error in the block: for records that only inform users and must not fail a run.

    Args:
        what: First words of the log line, such as "The summary of this run".
    """
    try:
        yield
    except Exception as error:
        get_run_logger().warning("%s cannot be recorded in Prefect: %r", what, error)


@contextmanager
def client_without_retries() -> Iterator[SyncPrefectClient]:
    """A client of Prefect whose calls fail within seconds: the work does not wait for them."""
    with _client(retries=0) as client:
        yield client


@contextmanager
def client_for_records() -> Iterator[SyncPrefectClient]:
    """A client of Prefect for the records of a finished run, which wait half a minute at most."""
    with _client(retries=2) as client:
        yield client


@contextmanager
def _client(*, retries: int) -> Iterator[SyncPrefectClient]:
    options: dict[str, Any] = {"timeout": _TIMEOUT}
    context = get_settings_context()
    settings = context.settings
    if (settings.api.url or "").startswith("http://"):
        options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # or it reads certificates
    # a copy that is not validated: Prefect's `temporary_settings` reads all settings anew
    limited = settings.client.model_copy(update={"max_retries": retries})
    settings = settings.model_copy(update={"client": limited})
    with (
        SettingsContext(profile=context.profile, settings=settings),
        get_client(httpx_settings=options, sync_client=True) as client,
    ):
        yield client


def write_metrics(metrics: Mapping[str, float]) -> None:
    """Write metrics to the labels of the current flow run; an error is logged."""
    with log_errors("The metrics of this run"), client_for_records() as client:
        write_labels(client, UUID(flow_run.id), metric_labels(metrics))


def metric_labels(metrics: Mapping[str, float]) -> KeyValueLabels:
    """The labels of a run that hold metrics of it."""
    return {_PREFIX + name: value for name, value in metrics.items()}


def write_labels(client: SyncPrefectClient, run_id: UUID, labels: KeyValueLabels) -> None:
    """Add labels to a run, or change them.

    One at a time in this process: the server reads all labels of a run, and writes them with the
    new ones, so that of two at once it may lose one.
    """
    with _LABELS:
        client.update_flow_run_labels(run_id, labels)


def read_metric(run: FlowRun, name: str) -> float | None:
    """Read a metric from a run's labels; None if it is missing, negative or not a finite number."""
    value = run.labels.get(_PREFIX + name)
    if isinstance(value, int | float) and isfinite(value) and value >= 0:
        return float(value)
    return None


def read_positive_metrics(run: FlowRun, names: Sequence[str]) -> list[float]:
    """Read metrics from a run's labels; empty unless all of them exist and are positive."""
    positive = [metric for name in names if (metric := read_metric(run, name))]
    return positive if len(positive) == len(names) else []


def children_of(run_id: UUID) -> FlowRunFilter:
    """Select the child runs of a run: of an image's run, the runs of its regions."""
    return FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id]))


def read_all(query: Callable[..., list[T]]) -> list[T]:
    """Read all rows that a query finds.

    Args:
        query: A query of Prefect's client, which takes a `limit` and an `offset`.
    """
    return list(read_pages(query))


def read_pages(query: Callable[..., list[T]]) -> Iterator[T]:
    """The rows that a query finds, of which one page is in memory at a time.

    Args:
        query: As for `read_all`.
    """
    for offset in count(0, _PAGE):
        page = query(limit=_PAGE, offset=offset)
        yield from page
        if len(page) < _PAGE:
            break
