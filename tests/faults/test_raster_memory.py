"""A region whose model answers with pixels stays under 1 GiB, however large its maps together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.faults.test_memory import GIBIBYTE, high_water, write

WIDTH, HEIGHT, TILE, CLASSES = 8000, 3000, 512, 6
LAYOUT = {"width": WIDTH, "height": HEIGHT, "tiled": True, "blockxsize": 512, "blockysize": 512}


class Noise:
    """A model whose probabilities nothing compresses."""

    capacity, local, tiles_per_call = 2, True, 4

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        self._bands = random.random((CLASSES, TILE, TILE), np.float32)

    def prepare(self, tile: Any) -> object:
        return tile.tile.index

    def ask(self, prepared: Sequence[int]) -> list[Any]:
        from tasks.inference.endpoint import Pixels

        return [Pixels(self._rolled(number)) for number in prepared]

    def _rolled(self, number: int) -> NDArray[np.float32]:
        return np.roll(self._bands, 97 * number, axis=2)

    def close(self) -> None:
        """Nothing is open."""


def peak_of_a_raster(scene: Path) -> tuple[int, int]:
    """Peak memory of this process after a region's raster was painted; bytes of its maps."""
    os.environ["SWATH_LOCAL_ROOTS"] = f'["{scene.parent}"]'
    os.environ["SWATH_WORK_URI"] = str(scene.parent / "work")
    import flows.region  # noqa: F401 - a region's run has loaded it
    from tasks.job import work_image
    from tasks.request import Request

    request = Request.model_validate(
        {
            "jobId": "noise",
            "imageUrls": [str(scene)],
            "outputs": [{"type": "File", "path": str(scene.parent / "out")}],
            "imageProcessor": {"name": "http://127.0.0.1:9/", "type": "HTTP_ENDPOINT"},
            "imageProcessorTileSize": TILE,
            "imageProcessorTileOverlap": 64,
            "rasterOutput": {
                "values": "probabilities",
                "classes": [{"value": n + 1, "name": f"class {n}"} for n in range(CLASSES)],
            },
        }
    )
    endpoint: Any = Noise()
    summary = work_image(request, str(scene), region_rows=HEIGHT, open_endpoint=lambda *_: endpoint)
    assert summary.status == "SUCCESS", summary.message
    kept = (scene.parent / "work").rglob("*.maps")
    return high_water(), sum(path.stat().st_size for path in kept)


def test_a_region_of_large_maps_takes_less_than_a_gibibyte(tmp_path: Path) -> None:
    write(tmp_path / "scene.tif", LAYOUT)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        peak, maps = process.submit(peak_of_a_raster, tmp_path / "scene.tif").result()
    print("raster", peak / 2**20, maps / 2**20)
    assert maps > 300 << 20
    assert peak < GIBIBYTE
