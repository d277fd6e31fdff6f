"""Settings and fixtures of all tests: no test starts or uses a Prefect server by default."""

from __future__ import annotations

import os
from collections.abc import Iterator
from threading import Thread

import pytest
from hypothesis import settings

from tests.range_server import RangeServer

os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"
os.environ["DO_NOT_TRACK"] = "1"
os.environ.pop("PREFECT_API_URL", None)

# how busy the machine is decides no test; half of hypothesis's examples take half of a unit test's
# time, and each run draws others
settings.register_profile("any-machine", deadline=None, max_examples=50)
settings.register_profile("quick", deadline=None, max_examples=20)  # `make unit`
settings.load_profile("any-machine")


def swath_variables() -> dict[str, str]:
    """The variables of this process's environment that Swath reads as settings."""
    return {name: value for name, value in os.environ.items() if name.startswith("SWATH_")}


AT_THE_START = swath_variables()

LONGEST = (
    "test_replaced_runs",
    "test_job_commands",
    "test_ecs",
    "test_compose",
    "test_template_roles",
    "test_kubernetes_jobs",
    "test_grafana",
    "test_system",
    "test_queue_faults",
    "test_swath_up",
    "test_orchestration_faults",
)
"""The files that take minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that all processes of the tests end at about the same time.

    With `--dist=loadfile --no-loadscope-reorder`, a process that is done takes the next file. The
    unit tests come last: their files take seconds, and so none is left to a single process.
    """
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (place.get(item.path.stem, len(place)), "unit" in item.path.parts))


@pytest.fixture(scope="module", autouse=True)
def _own_settings() -> Iterator[None]:
    """Files may run in any order: none leaves settings behind for those after it."""
    assert swath_variables() == AT_THE_START
    yield
    assert swath_variables() == AT_THE_START


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """A small S3 server, which this process's clients use as S3."""
    from tasks.aws import clients
    from tasks.settings import settings

    with RangeServer() as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "known")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("SWATH_READ_PATIENCE", "0.5")
        clients.renew_credentials()
        settings.cache_clear()
        yield server
        clients.renew_credentials()
        settings.cache_clear()
        server.shutdown()
        thread.join()
