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
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """The chain with a worker, which this process does not use yet."""
    folder = tmp_path_factory.mktemp("chain")
    with running_chain(folder) as chain:
        with chain.adopted():
            chain.upload(paint(folder / IMAGE), IMAGE)
            chain.upload(paint(folder / SMALL, 420, 340), SMALL)
        yield chain


@pytest.fixture(scope="session")
def expected(processes: Chain) -> list[dict[str, Any]]:
    """The features of the image if nothing fails."""
    with processes.adopted() as chain, chain.sensor():
        chain.send("expected", chain.models.model(), IMAGE)
        assert chain.await_end("expected") == "SUCCESS"
        return chain.features("expected", IMAGE)


@pytest.fixture(scope="module")
def chain(processes: Chain) -> Iterator[Chain]:
    """The chain, which this process uses for the tests of one file: other files run after it.

    Each test starts the sensor that it needs.
    """
    with processes.adopted() as chain:
        yield chain


@pytest.fixture
def job() -> str:
    """The id of a job of the test's own."""
    return f"job-{uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def models() -> Iterator[CountingModels]:
    """The server of counting models, without the chain."""
    with counting_models() as models:
        yield models
