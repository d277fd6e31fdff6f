"""Fixtures of the integration tests: an emulated AWS, a Prefect server, a working folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local.prefect_server import start_server
from deployments.local.processes import Processes
from tasks.imagery import Image
from tasks.inference import open_endpoint
from tasks.inference.raster_endpoint import RasterEndpoint
from tasks.settings import settings
from tests.emulated_aws import emulated_aws
from tests.model_server import model_server
from tests.raster_calls import OpenRaster, request_for, write_image
from tests.raster_server import RasterServer, raster_server

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint URL of an emulated AWS, which this process's clients use."""
    with emulated_aws(tmp_path_factory.mktemp("aws")) as endpoint_url:
        yield endpoint_url


@pytest.fixture(scope="session")
def models() -> Iterator[str]:
    """The URL of the model server."""
    with model_server() as url:
        yield url


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


@pytest.fixture(scope="session")
def raster_model() -> Iterator[RasterServer]:
    """A server of one model, whose answers in pixels a test chooses."""
    with raster_server() as server:
        yield server


@pytest.fixture(scope="session")
def raster_image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """An image for that model, of 2048 × 2048 pixels with three bands of 8 bits."""
    return write_image(tmp_path_factory.mktemp("image") / "a.tif")


@pytest.fixture
def open_raster(raster_model: RasterServer, raster_image: Image) -> Iterator[OpenRaster]:
    """Opens that model for a `rasterOutput`."""
    with ExitStack() as opened:

        def open_raster(output: dict[str, Any], **fields: Any) -> RasterEndpoint:
            asked = request_for(raster_model.url, output, **fields)
            assert asked.raster_output is not None
            endpoint = open_endpoint(asked, raster_image, 30.0)
            raster = RasterEndpoint(endpoint, asked.raster_output, asked.tile_size)
            return opened.enter_context(closing(raster))

        yield open_raster
