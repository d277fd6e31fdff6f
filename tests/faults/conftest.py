"""The chain that the fault tests break, and what it comes to if nothing breaks."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.chain import Chain, running_chain
from tests.job_scene import paint

IMAGE = "scene.tif"
"""An image of 64 tiles that hold something, in three regions."""


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """The chain with a worker; each test starts the sensor that it needs."""
    folder = tmp_path_factory.mktemp("chain")
    with running_chain(folder) as chain:
        chain.upload(paint(folder / IMAGE), IMAGE)
        yield chain


@pytest.fixture
def job() -> str:
    """The id of a job of the test's own."""
    return f"job-{uuid4().hex[:8]}"
