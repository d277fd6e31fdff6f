"""What a run of one small image imports: modules that take long, and that it does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.job_scene import paint
from tests.onnx_models import YOLOX, yolox_nano

SLOW = {
    "asyncpg", "boto3", "botocore.client", "botocore.session", "docker", "fastapi", "geopandas",
    "httpx", "llvmlite", "lxml", "matplotlib", "numba", "onnxruntime", "pandas", "PIL", "prefect",
    "prefect_aws", "pmtiles", "psutil", "pyogrio", "sarkit", "scipy", "sqlalchemy", "starlette",
    "uvicorn",
}  # fmt: skip
PROGRAM = """
import sys
from types import ModuleType
from deployments.cli import main
status = main()
loaded = [name for name, module in sys.modules.items() if type(module) is ModuleType]
print(*loaded, file=sys.stderr)
sys.exit(status)
"""


AWS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
"""What most users have in their environment, and a run of a local image does not use."""


def imported(image: Path, out: Path, *arguments: object) -> set[str]:
    """The modules that a run of an image has loaded at its end."""
    (image.parent / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", image, "--out", out, *map(str, arguments)],
        env=os.environ | AWS | {"TMPDIR": str(image.parent / "tmp")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list((image.parent / "tmp").iterdir()) == []  # onnxruntime's telemetry leaves a file
    assert (out / f"{image.name}.geojson").is_file()
    return set(done.stderr.splitlines()[-1].split())


def test_a_run_with_a_builtin_model_imports_nothing_slow(tmp_path: Path) -> None:
    scene = paint(tmp_path / "scene.tif", 512, 512)
    loaded = imported(scene, tmp_path / "out", "--model", "centerpoint", "--tile-size", 512)
    assert "rasterio" in loaded
    assert loaded & SLOW == set()


@pytest.mark.skipif(not YOLOX.is_file(), reason="the real model is not on this machine")
def test_a_run_with_a_model_file_imports_onnxruntime_too(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text(json.dumps(yolox_nano()))
    loaded = imported(
        paint(tmp_path / "scene.tif", 416, 416), tmp_path / "out",
        "--model", YOLOX, "--parameter", f"description={tmp_path / 'words.json'}",
        "--tile-size", 416,
    )  # fmt: skip
    assert loaded & SLOW == {"onnxruntime"}


def test_a_deferred_module_is_loaded_when_it_is_used() -> None:
    program = """
import sys
import tasks, rasterio, boto3
assert "botocore.session" not in sys.modules
assert boto3.Session().client and boto3.__version__
assert "botocore.session" in sys.modules
assert not hasattr(boto3, "no_such_name")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240)
