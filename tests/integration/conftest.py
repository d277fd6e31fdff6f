"""Fixtures of the integration tests: an emulated AWS, a Prefect server, a working folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local.prefect_server import start_server
from deployments.local.processes import Processes
from tasks.settings import settings
from tests.emulated_aws import emulated_aws
from tests.model_server import start

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint URL of an emulated AWS, which this process's clients use."""
    with emulated_aws(tmp_path_factory.mktemp("aws")) as endpoint_url:
        yield endpoint_url


@pytest.fixture(scope="session")
def models() -> Iterator[str]:
    """The URL of the model server."""
    process, port = start()
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.communicate(timeout=30)


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API URL of a Prefect server for tests, for flows of this process and other commands."""
    with Processes() as processes:
        server = start_server(processes, tmp_path_factory.mktemp("prefect"))
        server.wait()
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield server.api_url


@pytest.fixture
def allowed(tmp_path: Path) -> Iterator[Path]:
    """A folder in which requests may name images and outputs; the test data are allowed too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path), str(DATA)]))
        patch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
        settings.cache_clear()
        yield tmp_path
    settings.cache_clear()
