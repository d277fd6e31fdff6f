"""The README's first command: the whole system, from a request on a queue to its results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.job_scene import paint

DEMO = (sys.executable, "-m", "deployments.cli", "demo")


def test_the_demonstration_of_an_image_publishes_its_features(tmp_path: Path) -> None:
    image = paint(tmp_path / "scene.tif", 420, 340)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "SWATH_"))}
    done = subprocess.run(
        [*DEMO, "--image", str(image), "--out", str(tmp_path / "demo")],
        env=environment | {"SWATH_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stderr
    assert "s in all" in done.stderr
    features = tmp_path / "demo" / "scene.tif.geojson"
    assert b'"FeatureCollection"' in features.read_bytes()
    assert features.with_suffix(".html").read_bytes().startswith(b"<!doctype html>")
