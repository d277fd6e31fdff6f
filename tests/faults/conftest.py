"""The chain that the fault tests break, and what it comes to if nothing breaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.chain import Chain, running_chain
from tests.counting_model import CountingModels, counting_models
from tests.job_scene import paint

IMAGE = "scene.tif"
"""An image of three regions."""

TILES = 64
"""Its tiles that hold something."""

SMALL = "small.tif"
"""An image of 9 tiles that hold something, in a single region, which runs in its image's run."""


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """The chain with a worker; each test starts the sensor that it needs."""
    folder = tmp_path_factory.mktemp("chain")
    with running_chain(folder) as chain:
        chain.upload(paint(folder / IMAGE), IMAGE)
        chain.upload(paint(folder / SMALL, 420, 340), SMALL)
        yield chain


@pytest.fixture(scope="session")
def expected(chain: Chain) -> list[dict[str, Any]]:
    """The features of the image if nothing fails."""
    with chain.sensor():
        chain.send("expected", chain.models.model(), IMAGE)
        assert chain.await_end("expected") == "SUCCESS"
    return chain.features("expected", IMAGE)


@pytest.fixture
def job() -> str:
    """The id of a job of the test's own."""
    return f"job-{uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def models() -> Iterator[CountingModels]:
    """The server of counting models, without the chain."""
    with counting_models() as models:
        yield models
