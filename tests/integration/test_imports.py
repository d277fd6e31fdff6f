"""Modules that a run's process does not import before its first tile, as that would delay it."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATE = [
    "geopandas",
    "lxml",
    "numba",
    "onnxruntime",
    "pandas",
    "prefect.deployments",
    "prefect.server.api",
    "prefect_aws",
    "psutil",
    "sarkit",
    "scipy",
    "tasks.inference.description",
    "tasks.inference.oip",
    "tasks.inference.onnx",
    "tasks.inference.sagemaker",
    "tasks.publish",
]
"""Modules that some runs need, or need later."""


def loaded_by(module: str) -> set[str]:
    """All that is loaded by a process that imports a module, and nothing else."""
    program = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def region() -> set[str]:
    return loaded_by("flows.region")


@pytest.mark.parametrize("module", LATE)
def test_a_region_process_does_not_import(module: str, region: set[str]) -> None:
    assert {"flows.region", "tasks.planning.plan", "rasterio"} <= region
    assert module not in region


def test_an_image_s_process_loads_no_model_and_no_machine_code() -> None:
    assert not {"scipy", "numba", "onnxruntime", "pandas"} & loaded_by("flows.image")


def test_a_sensor_s_process_reads_requests_and_no_images() -> None:
    assert not {"tasks.inference", "tasks.imagery", "pyarrow", "pyproj"} & loaded_by("flows.sensor")
