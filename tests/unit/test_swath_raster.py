"""`swath.run` with a model that answers with pixels: what its result has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from PIL import Image

import swath

GREY = np.zeros((96, 160), np.uint8)
GREY[:, :80], GREY[:, 80:120], GREY[:, 120:] = 50, 120, 200
NAMES = ["dark", "mid", "bright"]


def three_classes(tiles: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """A band for each class: how near a pixel is to its grey."""
    greys = np.array([50, 120, 200], np.float32)[:, np.newaxis, np.newaxis]
    return [-np.abs(tile.astype(np.float32) - greys) for tile in tiles]


def test_a_result_has_the_paths_of_its_rasters() -> None:
    result = swath.run(
        GREY, model=three_classes, raster="logits", class_names=NAMES, scores="float32",
        tile_size=64, overlap=16, progress=False,
    )  # fmt: skip
    assert result.raster is not None
    assert result.scores is not None
    with rasterio.open(result.raster) as dataset:
        np.testing.assert_array_equal(dataset.read(1), np.searchsorted([100, 150], GREY))
    with rasterio.open(result.scores) as dataset:
        assert dataset.descriptions == (*NAMES,)
    assert result.summary.raster is not None
    assert result.summary.raster.classes == {"dark": 7680, "mid": 3840, "bright": 3840}
    with pytest.raises(swath.SwathError, match=r"open result\.raster, or give polygons=True"):
        _ = result.features
    legend = result.plot(size=160).get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["dark 50 %", "mid 25 %", "bright 25 %"]
    plt.close("all")


def test_polygons_of_some_classes_are_the_features(tmp_path: Path) -> None:
    result = swath.run(
        GREY, model=three_classes, raster="logits", class_names={1: "dark", 2: "mid", 3: "bright"},
        polygons=True, classes="bright", min_area=10, tile_size=64, overlap=16, out=tmp_path,
        progress=False,
    )  # fmt: skip
    (feature,) = result.features_in_pixels.itertuples()
    assert feature.score > 0.9
    assert feature.geometry.bounds == (120, 0, 160, 96)
    assert result.raster == tmp_path / "array.tif.tif"


def test_a_partial_raster_says_how_many_pixels_have_no_answer() -> None:
    def refuses_bright(tiles: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        if (tiles == 200).all():
            raise ValueError("too bright")
        return [tile // 100 for tile in tiles]

    with pytest.warns(UserWarning, match="3,072 pixels without an answer"):
        result = swath.run(
            GREY, model=refuses_bright, raster="classes", class_names=["a", "b", "c"],
            tile_size=32, overlap=0, batch_size=1, progress=False,
        )  # fmt: skip
    assert result.preview(160).startswith(b"\x89PNG")


def test_fields_of_polygons_are_given_in_raster() -> None:
    fields: Any = {"minimumArea": 16}
    with pytest.raises(swath.SwathError, match=r"polygons: .* is not True or False; .* raster"):
        swath.plan(GREY, raster="logits", class_names=NAMES, polygons=fields)
    swath.plan(GREY, raster={"values": "logits", "polygons": fields}, class_names=NAMES)


def test_a_model_of_features_has_no_raster() -> None:
    result = swath.run(GREY, model="bright-targets", tile_size=64, overlap=16, progress=False)
    assert (result.raster, result.scores) == (None, None)
    assert result.summary.raster is None


def test_a_plan_has_the_bytes_of_the_raster() -> None:
    found = swath.plan(GREY, raster="logits", class_names=NAMES, tile_size=64, overlap=16)
    assert found.raster is not None
    assert found.raster.bytes == GREY.size


def test_a_notebook_shows_the_classes() -> None:
    result = swath.run(
        GREY, model=three_classes, raster="logits", class_names=NAMES, tile_size=64, progress=False
    )
    shown = Path(str(result.raster)).with_name("shown.jpg")
    shown.write_bytes(result._repr_jpeg_())
    colours = np.array(Image.open(shown).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours // 64, axis=0)) > 2
