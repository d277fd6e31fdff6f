"""One small image from the command to the result, beside SAHI with the same model.

Each run is a process of its own, so imports count. SAHI gets its model class here, a subclass of
its `DetectionModel` that calls the ONNX file and decodes YOLOX as its authors do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from tests.onnx_models import PLANES, YOLOX, yolox_nano

RUNS = 5
SWATH = Path(sys.executable).with_name("swath")
SAHI = """
import json, sys
import numpy as np
import onnxruntime
from sahi.models.base import DetectionModel
from sahi.predict import get_sliced_prediction
from sahi.prediction import ObjectPrediction

SIDE = 416
grids, strides = [], []
for stride in (8, 16, 32):
    cells = np.arange(SIDE // stride)
    grids.append(np.stack(np.meshgrid(cells, cells), -1).reshape(-1, 2))
    strides.append(np.full((len(grids[-1]), 1), stride))
GRID, STRIDE = np.concatenate(grids), np.concatenate(strides)


class Yolox(DetectionModel):
    def check_dependencies(self, *_):
        pass

    def load_model(self):
        self.model = onnxruntime.InferenceSession(self.model_path)
        self.category_mapping = {str(index): str(index) for index in range(80)}

    def perform_inference(self, image):
        tile = np.full((1, 3, SIDE, SIDE), 114, np.float32)
        height, width = image.shape[:2]
        tile[0, :, :height, :width] = image[..., ::-1].transpose(2, 0, 1)
        name = self.model.get_inputs()[0].name
        self._original_predictions = self.model.run(None, {name: tile})[0][0]

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list=None, full_shape_list=None
    ):
        found = self._original_predictions
        centres, sizes = (found[:, :2] + GRID) * STRIDE, np.exp(found[:, 2:4]) * STRIDE
        scores = found[:, 4:5] * found[:, 5:]
        best = scores.argmax(1)
        kept = np.flatnonzero(scores.max(1) >= self.confidence_threshold)
        self._object_prediction_list_per_image = [[
            ObjectPrediction(
                bbox=np.clip(np.r_[centres[k] - sizes[k] / 2, centres[k] + sizes[k] / 2], 0, SIDE)
                .astype(int).tolist(),
                category_id=int(best[k]),
                score=float(scores[k, best[k]]),
                category_name=str(best[k]),
                shift_amount=shift_amount_list[0],
                full_shape=full_shape_list[0],
            )
            for k in kept
        ]]


image, model, out = sys.argv[1:]
result = get_sliced_prediction(
    image,
    Yolox(model_path=model, confidence_threshold=0.3, device="cpu"),
    slice_height=SIDE,
    slice_width=SIDE,
    overlap_height_ratio=0.25,
    overlap_width_ratio=0.25,
    perform_standard_pred=False,
    verbose=0,
)
json.dump(result.to_coco_annotations(), open(out, "w"), default=float)
"""


def measured(command: list[str]) -> tuple[float, float]:
    """Wall seconds and CPU seconds of a process."""
    started = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, told
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime


@pytest.mark.skipif(not YOLOX.is_file(), reason="the real model is not on this machine")
def test_one_small_image(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text(json.dumps(yolox_nano()))
    geojson, coco = tmp_path / "out" / f"{PLANES.name}.geojson", tmp_path / "coco.json"
    programs: dict[str, tuple[list[str], Callable[[], int]]] = {
        "swath": (
            [
                *map(str, (SWATH, "run", PLANES, "--out", tmp_path / "out", "--model", YOLOX)),
                *("--parameter", f"description={tmp_path / 'words.json'}"),
                *("--tile-size", "416", "--overlap", "104"),
            ],
            lambda: len(json.loads(geojson.read_text())["features"]),
        ),
        "sahi": (
            [sys.executable, "-c", SAHI, *map(str, (PLANES, YOLOX, coco))],
            lambda: len(json.loads(coco.read_text())),
        ),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(RUNS):  # alternating, so that both meet the same machine
        for name, (command, features) in programs.items():
            seconds[name].append(measured(command))
            assert features() == 2
    wall, cpu = (
        {name: median(each[k] for each in times) for name, times in seconds.items()} for k in (0, 1)
    )
    told = {
        "benchmark": "one small image",
        "tiles": 4,
        "runs": RUNS,
        **{f"{name} s": round(wall[name], 2) for name in programs},
        **{f"{name} CPU s": round(cpu[name], 2) for name in programs},
        "s ratio": round(wall["swath"] / wall["sahi"], 2),
        "CPU ratio": round(cpu["swath"] / cpu["sahi"], 2),
    }
    print(json.dumps(told))
