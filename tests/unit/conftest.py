"""Fixtures of the unit tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.settings import settings


@pytest.fixture
def allowed(tmp_path: Path) -> Iterator[Path]:
    """A folder that requests may name images, models and outputs in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
        patch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
        settings.cache_clear()
        yield tmp_path
    settings.cache_clear()
