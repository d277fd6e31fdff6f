"""Python functions that answer with pixels: the forms of their rasters, and what is refused."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import AnswerError
from tasks.grid.tiles import Tile
from tasks.imagery import TilePixels
from tasks.inference.answer import read_answer
from tasks.inference.callable import CallableModel
from tasks.inference.callable.model import Function
from tasks.inference.raster_endpoint import RasterEndpoint
from tasks.raster.tile_maps import decode_map
from tasks.request import RasterOutput
from tests.infer_tiles import infer_tiles
from tests.unit.test_callable_model import BOX, REQUEST, Tensor, tiles

RASTER = REQUEST.model_copy(
    update={
        "raster_output": RasterOutput.model_validate(
            {"values": "values", "bands": ["height", "age"], "augmentation": "turns"}
        )
    }
)


def doubled(tile: NDArray[Any]) -> NDArray[np.float32]:
    return np.stack([tile[0] * 2.0, tile[1] + 0.25]).astype(np.float32)


def rasters(function: Function, given: list[TilePixels], **options: Any) -> list[NDArray[Any]]:
    """The maps of tiles, each asked for in eight views."""
    output = RASTER.raster_output
    assert output is not None
    model = CallableModel(function, **options).open(RASTER, None)  # type: ignore[arg-type]
    with closing(RasterEndpoint(model, output, 32)) as endpoint:
        answers = endpoint.ask([endpoint.prepare(each) for each in given])
    maps = [read_answer(answer, each.tile).map for answer, each in zip(answers, given, strict=True)]
    return [
        decode_map(encoded or b"", output, each.shape[1:])
        for encoded, each in zip(maps, given, strict=True)
    ]


@pytest.mark.parametrize(
    "function",
    [
        lambda batch: np.stack([doubled(each) for each in batch]),
        lambda batch: [doubled(each) for each in batch],
        lambda batch: [doubled(each).tolist() for each in batch],
        lambda batch: (Tensor(doubled(each)) for each in batch),
        lambda batch: Tensor(np.stack([doubled(each) for each in batch])).cpu(),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3, 8, 20])
def test_a_function_answers_with_rasters_in_these_forms(
    function: Function, batch_size: int
) -> None:
    given = [*tiles(3), narrow(), narrow()]
    found = rasters(function, given, batch_size=batch_size)
    for raster, each in zip(found, given, strict=True):
        np.testing.assert_array_equal(raster, doubled(each.pixels))


def narrow() -> TilePixels:
    """A tile of an image that is narrower than a tile."""
    pixels = np.random.default_rng(2).integers(0, 99, (3, 30, 11), np.uint8)
    return TilePixels(Tile(9, Window(0, 0, 11, 30)), pixels, None)


def test_a_function_may_use_the_array_of_its_answer_again() -> None:
    buffer = np.zeros((1, 2, 32, 32), np.float32)

    def reusing(batch: NDArray[Any]) -> NDArray[Any]:
        buffer[0] = doubled(batch[0])
        return buffer

    given = tiles(3)
    for raster, each in zip(rasters(reusing, given, batch_size=1), given, strict=True):
        np.testing.assert_array_equal(raster, doubled(each.pixels))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (np.zeros((1, 2, 32, 32)), "1 answers for a batch of 2 tiles; return one array (tiles"),
        ({"boxes": [BOX]}, "one dict for a batch of 2 tiles; return one array (tiles, bands"),
        ([{"boxes": [BOX]}] * 2, "of type dict, shape () and data type object; return one array"),
        ([np.zeros((32, 32), complex)] * 2, "data type complex128; return one array"),
        ([[[1, 2], [3]]] * 2, "is no array (setting an array element with a sequence"),
        (np.zeros((2, 32, 32)), "has 1 band of 32 × 32 pixels of float64, where rasterOutput"),
        (np.zeros((2, 3, 32, 32)), "numbers. List all of them in rasterOutput.bands, or answer"),
        (np.zeros((2, 32, 32, 2)), "Put the bands first"),
    ],
)
def test_a_raster_of_another_form_is_refused_with_the_remedy(answer: Any, told: str) -> None:
    output = RasterOutput.model_validate({"values": "values", "bands": ["height", "age"]})
    request = REQUEST.model_copy(update={"raster_output": output})
    model = CallableModel(lambda _: answer).open(request, None)  # type: ignore[arg-type]
    given = tiles(2)
    with closing(RasterEndpoint(model, output, 32)) as endpoint:
        try:
            (raster, _) = endpoint.ask([endpoint.prepare(each) for each in given])
            reason = failure(raster, given[0])
        except AnswerError as error:
            reason = str(error)
    assert told in reason


def failure(raster: object, tile: TilePixels) -> str:
    """Why an answer cannot be read."""
    with pytest.raises(AnswerError) as caught:
        read_answer(raster, tile.tile)
    return str(caught.value)


def test_an_array_of_pixels_without_raster_names_it() -> None:
    model = CallableModel(lambda batch: np.zeros((len(batch), 2, 32, 32)))
    endpoint = model.open(REQUEST, None)  # type: ignore[arg-type]
    for row in infer_tiles(tiles(2), endpoint).ledger.to_pylist():
        assert "for an array of pixels, say what it holds (raster of swath.run)" in row["reason"]
