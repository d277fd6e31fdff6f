"""A real segmentation model over a real scene, beside plain NumPy and the scene's truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import rasterio
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.job import work_image
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tasks.settings import settings
from tests.onnx_models import SHARED

MODEL = SHARED / "models" / "cloudmask_4b_l1c.onnx"
SCENE = SHARED / "data" / "sentinel2_6band.tif"
TRUTH = SHARED / "data" / "sentinel2_truth.tif"
TILE, OVERLAP = 256, 51
MEAN = (0.27552253, 0.25566444, 0.26980153, 0.33431220)
DEVIATION = (0.24488002, 0.22757471, 0.25371522, 0.23213787)
TRUE = np.array([2, 0, 0, 0, 1])  # the model's class for each number of the truth
pytestmark = pytest.mark.skipif(not MODEL.exists(), reason=f"there is no {MODEL}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the description, in which answers are kept: each tile is asked for once."""
    folder = tmp_path_factory.mktemp("clouds")
    (folder / "clouds.json").write_text(documented())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(folder), str(SHARED.resolve())]))
        patch.setenv("SWATH_WORK_URI", str(folder / "work"))
        settings.cache_clear()
        yield folder
    settings.cache_clear()


def documented() -> str:
    """The description in the documentation."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    section = page.partition("### Models that answer with pixels\n")[2]
    return section.partition("```json\n")[2].partition("```")[0]


@pytest.fixture(scope="module")
def plain(folder: Path) -> NDArray[np.int64]:
    """The class map by NumPy alone: softmax, squared sines, float64, argmax."""
    return blended(OVERLAP)


def blended(overlap: int) -> NDArray[np.int64]:
    with rasterio.open(SCENE) as dataset:
        bands = dataset.read([1, 2, 3, 4])
    scale = np.array([MEAN, DEVIATION], np.float32)[:, :, None, None]
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    grid = Grid(bands.shape[2], bands.shape[1], TILE, overlap)
    sums = np.zeros((3, *bands.shape[1:]))
    sine = np.sin(np.pi * (np.arange(TILE) + 0.5) / TILE) ** 2
    for y in grid.rows:
        for x in grid.columns:
            tile = (bands[:, y : y + TILE, x : x + TILE] - scale[0]) / scale[1]
            (logits,) = session.run(["output"], {"input": tile[np.newaxis]})
            odds = np.exp(logits[0].astype(np.float64))
            weights = np.outer(sine, sine)
            sums[:, y : y + TILE, x : x + TILE] += weights * odds / odds.sum(axis=0)
    numbers: NDArray[np.int64] = sums.argmax(axis=0)
    return numbers


def class_map(folder: Path, **raster: Any) -> NDArray[np.uint8]:
    asked = {
        "jobId": "clouds",
        "imageUrls": [str(SCENE.resolve())],
        "outputs": [{"type": "File", "path": str(folder / "out")}],
        "imageProcessor": {"name": str(MODEL.resolve()), "type": "ONNX"},
        "imageProcessorParameters": {"description": str(folder / "clouds.json")},
        "imageProcessorTileOverlap": OVERLAP,
        "rasterOutput": raster,
    }
    request = Request.parse(json.dumps(asked))
    assert work_image(request, request.image_urls[0]).status is JobStatus.SUCCESS
    with rasterio.open(folder / "out" / f"{SCENE.name}.tif") as dataset:
        found: NDArray[np.uint8] = dataset.read(1)
    return found


def kappa(found: NDArray[Any]) -> float:
    """Cohen's kappa against the truth."""
    with rasterio.open(TRUTH) as dataset:
        true = TRUE[dataset.read(1)]
    confusion = np.bincount((true * 3 + found).ravel(), minlength=9).reshape(3, 3) / true.size
    by_chance = confusion.sum(axis=0) @ confusion.sum(axis=1)
    return float((np.trace(confusion) - by_chance) / (1 - by_chance))


def test_the_class_map_is_that_of_a_plain_blend(folder: Path, plain: NDArray[np.int64]) -> None:
    found = class_map(folder)
    assert (found != plain).mean() <= 1e-4
    assert kappa(found) >= 0.85


def test_blending_is_no_worse_than_its_alternatives(folder: Path) -> None:
    kappas = {blend: kappa(class_map(folder, blend=blend)) for blend in ("smooth", "clip", "max")}
    kappas["tiles without overlap"] = kappa(blended(0))
    for name, found in kappas.items():
        print(f"{name}: kappa {found:.4f}")
    assert max(kappas.values()) - kappas["smooth"] < 0.005
