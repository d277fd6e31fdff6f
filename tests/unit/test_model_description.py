"""The description of a model: validation, and the tensor made of a tile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, open_image
from tasks.inference.description import Description, load_description
from tasks.inference.description.properties import Properties
from tests.examples import examples
from tests.onnx_models import describe, write_json

YOLOX = {"type": "yolox"}


def described(detector: Mapping[str, Any] = YOLOX, **words: Any) -> Description:
    return Description("model.json", Properties.model_validate(describe(detector, **words)))


def tile(pixels: NDArray[Any]) -> TilePixels:
    return TilePixels(Tile(0, Window(0, 0, pixels.shape[2], pixels.shape[1])), pixels, None)


def ramp(height: int, width: int, bands: int = 3, dtype: str = "uint8") -> NDArray[Any]:
    shape = (bands, height, width)
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


@pytest.fixture
def rgb(tmp_path: Path) -> Image:
    place = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}
    shape = {"width": 100, "height": 80, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(ramp(80, 100))
    return open_image(str(tmp_path / "a.tif"), roots=[tmp_path])


def refusal(tmp_path: Path, document: object) -> str:
    path = write_json(tmp_path / "model.json", document)
    with pytest.raises(RequestError) as raised:
        load_description(str(path), [tmp_path], None)
    assert str(path) in str(raised.value)
    return str(raised.value)


class TestLoading:
    def test_a_stac_item_and_its_properties_alone_are_equivalent(self, tmp_path: Path) -> None:
        properties = describe(YOLOX)
        item = {"type": "Feature", "stac_version": "1.1.0", "properties": properties, "assets": {}}
        alone = load_description(str(write_json(tmp_path / "a.json", properties)), [tmp_path], None)
        whole = load_description(str(write_json(tmp_path / "b.json", item)), [tmp_path], None)
        assert alone.properties == whole.properties

    def test_a_missing_description_is_refused_with_its_required_fields(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(RequestError, match=r"model.json: there is no.*swath:detector"):
            load_description(str(tmp_path / "model.json"), [tmp_path], None)

    @pytest.mark.parametrize("uri", ["/etc/passwd", "https://example.com/a.json", "s3://x"])
    def test_nothing_outside_the_roots_is_read(self, tmp_path: Path, uri: str) -> None:
        with pytest.raises(RequestError, match=r"below none of the local roots|give s3://"):
            load_description(uri, [tmp_path], None)

    def test_a_symbolic_link_out_of_the_roots_is_not_followed(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        root.mkdir()
        write_json(tmp_path / "secret.json", describe(YOLOX))
        (root / "model.json").symlink_to(tmp_path / "secret.json")
        with pytest.raises(RequestError, match="below none of the local roots"):
            load_description(str(root / "model.json"), [root], None)

    @pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '"text"', "\x00"])
    def test_a_file_of_another_kind_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(RequestError, match=r"model\.json"):
            load_description(str(tmp_path / "model.json"), [tmp_path], None)

    def test_a_file_that_is_too_large_is_not_read(self, tmp_path: Path) -> None:
        with (tmp_path / "model.json").open("wb") as file:
            file.truncate(1 << 33)
        with pytest.raises(RequestError, match="more than the"):
            load_description(str(tmp_path / "model.json"), [tmp_path], None)


class TestRefusals:
    def test_a_misspelt_field_is_refused_with_a_suggestion(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, describe(YOLOX | {"score_treshold": 0.4}))
        assert "score_treshold: unknown field; did you mean score_threshold?" in message

    def test_a_field_of_another_family_is_unknown(self, tmp_path: Path) -> None:
        assert "end2end: unknown field" in refusal(tmp_path, describe(YOLOX | {"end2end": True}))

    def test_another_object_of_swath_is_refused(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, describe(YOLOX) | {"swath:detecter": {}})
        assert "swath:detecter: unknown field" in message

    def test_an_unknown_family_is_refused_with_the_known_ones(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, describe({"type": "ssd"}))
        assert "type: 'ssd' is not one of" in message
        assert all(known in message for known in ("yolox", "yolov8", "detr", "torchvision"))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"score_threshold": 1.5}, "score_threshold: 1.5 is above 1"),
            ({"nms_iou_threshold": -1}, "nms_iou_threshold: -1 is below 0"),
            ({"bands": [0, 1, 2]}, "is below 1"),
            ({"bands": [1, 2]}, "has 2 bands where input.shape has 3"),
            ({"letterbox": "left"}, "letterbox"),
            ({"clip": [5, 5]}, "not below the maximum"),
            ({"pixel_types": ["complex64"]}, "pixel_types"),
            ({"pad_value": float("nan")}, "pad_value"),
            ({"strides": [0]}, "strides"),
        ],
    )
    def test_fields_of_the_detector_are_validated(
        self, tmp_path: Path, change: dict[str, Any], words: str
    ) -> None:
        document = describe(YOLOX | change)
        text = json.dumps(document).replace("NaN", '"NaN"')
        assert words in refusal(tmp_path, json.loads(text))

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            ({"shape": (1, 3, 64)}, "give the same number of both"),
            ({"shape": (1, 3, 0, 64)}, "dimension of 0"),
            ({"shape": (1, -1, 64, 64)}, "-1 for the number of bands"),
            ({"shape": (1, 3, -1, 64)}, "-1 for only one of height and width"),
            ({"dim_order": ("batch", "time", "height", "width")}, "dimensions of an image"),
            ({"data_type": "cint16"}, "data_type"),
            ({"bands": ["red", "green"]}, "2 bands where input.shape has 3"),
            ({"value_scaling": [{"type": "scale", "value": 255}] * 2}, "give 1, or 3"),
            ({"value_scaling": [{"type": "min-max", "minimum": 0}]}, "has no maximum"),
            ({"value_scaling": [{"type": "z-score", "mean": 1, "stddev": 0}]}, "by zero"),
            ({"value_scaling": [{"type": "clip", "minimum": 3, "maximum": 2}]}, "not below"),
            ({"value_scaling": [{"type": "processing", "format": "python"}]}, "does not run code"),
            ({"pre_processing_function": {"format": "python"}}, "does not run code"),
            ({"resize_type": "crop"}, "is not supported by Swath"),
            ({"classes": ()}, "names no classes"),
        ],
    )
    def test_fields_of_mlm_are_validated(
        self, tmp_path: Path, words: dict[str, Any], reason: str
    ) -> None:
        assert reason in refusal(tmp_path, describe(YOLOX, **words))

    def test_bgr_is_refused_unless_there_are_three_bands(self, tmp_path: Path) -> None:
        document = describe(YOLOX | {"channel_order": "BGR"}, shape=(1, 1, 64, 64))
        assert "BGR needs 3 bands" in refusal(tmp_path, document)


class TestFitting:
    def test_bands_are_found_by_name(self, rgb: Image) -> None:
        bands = ["blue", {"name": "Red"}]
        description = described(bands=bands, shape=(1, 2, 64, 64), resize_type="pad")
        assert description.for_image(rgb, 64).bands == (2, 0)

    def test_bands_by_number_take_precedence_over_names(self, rgb: Image) -> None:
        detector = YOLOX | {"bands": [3, 3, 1]}
        fitted = described(detector, bands=["B04", "B03", "B02"]).for_image(rgb, 64)
        assert fitted.bands == (2, 2, 0)

    def test_bgr_reverses_the_bands(self, rgb: Image) -> None:
        detector = YOLOX | {"channel_order": "BGR"}
        fitted = described(detector, bands=["red", "green", "blue"]).for_image(rgb, 64)
        assert fitted.bands == (2, 1, 0)

    def test_alpha_is_not_given_to_a_model(self, rgb: Image) -> None:
        with_alpha = replace(rgb, bands=4, alpha=1)
        assert described().for_image(with_alpha, 64).bands == (1, 2, 3)

    @pytest.mark.parametrize(
        ("detector", "words", "reason"),
        [
            (YOLOX | {"bands": [1, 2, 4]}, {}, "band 4 of an image that has 3"),
            (YOLOX, {"bands": ["red", "green", "nir"]}, "the image has no band 'nir'"),
            (YOLOX, {"shape": (1, 4, 64, 64)}, "takes 4 bands where the image has 3"),
            (YOLOX | {"pixel_types": ["uint16"]}, {}, "pixels of type uint8"),
            (YOLOX, {"shape": (1, 3, 32, 32)}, "give imageProcessorTileSize 32"),
            (YOLOX, {"shape": (1, 3, 32, 32), "resize_type": "pad"}, "interpolation-linear"),
            (YOLOX, {"shape": (1, 3, 96, 96)}, 'or "pad"'),
        ],
    )
    def test_an_image_that_does_not_fit_is_refused_before_any_tile(
        self, rgb: Image, detector: dict[str, Any], words: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(RequestError, match=reason):
            described(detector, **words).for_image(rgb, 64)

    def test_pixels_of_an_unlisted_type_are_refused(self) -> None:
        with pytest.raises(RequestError, match=r"pixel_types.*uint16"):
            described().prepare(tile(ramp(64, 64, dtype="uint16")))


class TestTensors:
    def test_a_tile_of_the_input_s_size_is_not_changed(self) -> None:
        pixels = ramp(64, 64)
        tensor = described().prepare(tile(pixels)).tensor
        assert tensor.dtype == np.float32
        assert tensor.flags.c_contiguous
        np.testing.assert_array_equal(tensor, pixels)

    def test_dimensions_have_the_model_s_order(self) -> None:
        pixels = ramp(48, 64)
        order = ("B", "y", "x", "channel")
        prepared = described(shape=(1, 48, 64, 3), dim_order=order).prepare(tile(pixels))
        assert prepared.tensor.flags.c_contiguous
        np.testing.assert_array_equal(prepared.tensor, pixels.transpose(1, 2, 0))

    @pytest.mark.parametrize(
        ("scaling", "expected"),
        [
            ({"type": "min-max", "minimum": 50, "maximum": 150}, lambda x: (x - 50) / 100),
            ({"type": "z-score", "mean": 10, "stddev": 4}, lambda x: (x - 10) / 4),
            ({"type": "clip", "minimum": 20, "maximum": 40}, lambda x: x.clip(20, 40)),
            ({"type": "clip-min", "minimum": 20}, lambda x: x.clip(20)),
            ({"type": "clip-max", "maximum": 40}, lambda x: x.clip(None, 40)),
            ({"type": "offset", "value": 7}, lambda x: x - 7),
            ({"type": "scale", "value": 255}, lambda x: x / 255),
            ({"type": None}, lambda x: x),
        ],
    )
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
    def test_values_are_scaled_as_mlm_defines(
        self, scaling: Any, expected: Any, dtype: str
    ) -> None:
        pixels = ramp(64, 64, dtype=dtype)
        description = described(YOLOX | {"pixel_types": [dtype]}, value_scaling=[scaling])
        tensor = description.prepare(tile(pixels)).tensor
        np.testing.assert_allclose(tensor, expected(pixels.astype(float)), rtol=1e-6)

    def test_each_band_has_its_own_scaling_also_in_bgr(self) -> None:
        scalings = [{"type": "scale", "value": value} for value in (1, 2, 4)]
        description = described(YOLOX | {"channel_order": "BGR"}, value_scaling=scalings)
        tensor = description.prepare(tile(np.full((3, 64, 64), 8, np.uint8))).tensor
        assert tensor[:, 0, 0].tolist() == [2, 4, 8]

    def test_scaling_and_clip_turn_uint16_into_the_range_of_uint8(self) -> None:
        detector = YOLOX | {"pixel_types": ["uint16"], "clip": [0, 255]}
        scaling = [{"type": "z-score", "mean": 1000, "stddev": 10}]
        for data_type in ("uint8", "float32"):
            description = described(detector, value_scaling=scaling, data_type=data_type)
            pixels = np.full((3, 64, 64), 0, np.uint16)
            pixels[:, 0, :3] = 500, 2004, 60000
            tensor = description.prepare(tile(pixels)).tensor
            assert tensor.dtype == data_type
            assert tensor[0, 0, :3].round().tolist() == [0, 100, 255]

    @given(
        pixels=arrays.arrays(np.uint16, (1, 8, 8)),
        data_type=st.sampled_from(["uint8", "int8", "int16", "float16", "float32"]),
    )
    def test_a_value_outside_the_range_of_a_type_becomes_the_nearest_limit(
        self, pixels: NDArray[np.uint16], data_type: str
    ) -> None:
        detector = YOLOX | {"pixel_types": ["uint16"]}
        tensor = (
            described(detector, shape=(1, 1, 8, 8), data_type=data_type)
            .prepare(tile(pixels))
            .tensor
        )
        whole = np.dtype(data_type).kind in "iu"
        limits = np.iinfo(data_type) if whole else np.finfo(data_type)
        expected = pixels.astype(float).clip(float(limits.min), float(limits.max))
        np.testing.assert_array_equal(tensor, expected.astype(data_type))


class TestPlacing:
    def test_padding_is_scaled_like_a_pixel_of_that_value(self) -> None:
        detector = YOLOX | {"pad_value": 100}
        scaling = [{"type": "scale", "value": 200}]
        description = described(detector, resize_type="pad", value_scaling=scaling)
        tensor = description.prepare(tile(np.full((3, 40, 50), 50, np.uint8))).tensor
        assert (tensor[:, :40, :50] == 0.25).all()
        assert (tensor[:, 40:] == 0.5).all()
        assert (tensor[:, :, 50:] == 0.5).all()

    @pytest.mark.parametrize(("letterbox", "top"), [("corner", 0), ("centre", 16)])
    def test_a_letterbox_keeps_the_ratio(self, letterbox: str, top: int) -> None:
        detector = YOLOX | {"letterbox": letterbox, "pad_value": 0}
        description = described(detector, resize_type="interpolation-linear")
        prepared = description.prepare(tile(np.full((3, 64, 128), 9, np.uint8)))
        assert prepared.placement.scale == (0.5, 0.5)
        inside = np.zeros((3, 64, 64), bool)
        inside[:, top : top + 32] = True
        np.testing.assert_array_equal(prepared.tensor == 9, inside)

    def test_without_one_a_tile_is_stretched(self) -> None:
        description = described(resize_type="interpolation-linear")
        prepared = description.prepare(tile(np.full((3, 16, 128), 9, np.uint8)))
        assert prepared.placement.scale == (0.5, 4.0)
        np.testing.assert_allclose(prepared.tensor, 9, rtol=1e-6)

    def test_an_input_of_any_size_is_padded_to_the_stride(self) -> None:
        description = described(YOLOX | {"pad_value": 1}, shape=(-1, 3, -1, -1))
        prepared = description.prepare(tile(np.full((3, 50, 64), 9, np.uint8)))
        assert prepared.tensor.shape == (3, 64, 64)
        assert (prepared.tensor[:, :50] == 9).all()
        assert (prepared.tensor[:, 50:] == 1).all()

    @examples(0.6)
    @given(
        height=st.integers(1, 90),
        width=st.integers(1, 90),
        method=st.sampled_from(["nearest", "linear", "cubic", "area", "lanczos4"]),
    )
    def test_resizing_keeps_a_constant_tile_constant(
        self, height: int, width: int, method: str
    ) -> None:
        description = described(resize_type=f"interpolation-{method}")
        tensor = description.prepare(tile(np.full((3, height, width), 200, np.uint8))).tensor
        np.testing.assert_allclose(tensor, 200, rtol=1e-5)

    @examples(0.6)
    @given(height=st.integers(1, 90), width=st.integers(1, 90))
    def test_linear_resizing_follows_its_definition(self, height: int, width: int) -> None:
        """Pixel centres aligned, edges replicated: compared with a plain loop over a few pixels."""
        pixels = np.random.default_rng(height * 91 + width).integers(0, 255, (3, height, width))
        description = described(resize_type="interpolation-linear")
        tensor = description.prepare(tile(pixels.astype(np.uint8))).tensor
        for row, column in ((0, 0), (63, 63), (31, 8), (5, 60)):
            y, x = (row + 0.5) * height / 64 - 0.5, (column + 0.5) * width / 64 - 0.5
            expected = sum(
                pixels[:, min(max(r, 0), height - 1), min(max(c, 0), width - 1)]
                * (1 - abs(y - r))
                * (1 - abs(x - c))
                for r in (int(np.floor(y)), int(np.floor(y)) + 1)
                for c in (int(np.floor(x)), int(np.floor(x)) + 1)
            )
            np.testing.assert_allclose(tensor[:, row, column], expected, atol=1e-3)

    def test_area_resizing_is_the_mean_of_the_source_pixels(self) -> None:
        pixels = ramp(128, 192)
        description = described(resize_type="interpolation-area")
        tensor = description.prepare(tile(pixels)).tensor
        means = pixels.reshape(3, 64, 2, 64, 3).mean(axis=(2, 4))
        np.testing.assert_allclose(tensor, means, rtol=1e-5)


class TestBatches:
    def test_one_tile_is_not_copied(self) -> None:
        description = described()
        prepared = description.prepare(tile(ramp(64, 64)))
        assert np.shares_memory(description.inputs([prepared])["images"], prepared.tensor)

    @pytest.mark.parametrize(("size", "rows"), [(-1, 2), (4, 4)])
    def test_a_batch_keeps_the_order_of_its_tiles(self, size: int, rows: int) -> None:
        description = described(shape=(size, 3, 64, 64))
        assert description.batch == (None if size == -1 else size)
        tiles = [np.full((3, 64, 64), fill, np.uint8) for fill in (1, 2)]
        prepared = [description.prepare(tile(pixels)) for pixels in tiles]
        batch = description.inputs(prepared)["images"]
        assert batch.shape == (rows, 3, 64, 64)
        assert batch[:, 0, 0, 0].tolist() == [1, 2, 0, 0][:rows]

    def test_a_model_without_a_batch_dimension_takes_a_single_tile(self) -> None:
        description = described(shape=(3, 64, 64), dim_order=("bands", "height", "width"))
        assert description.batch == 1
        prepared = description.prepare(tile(ramp(64, 64)))
        assert description.inputs([prepared])["images"].shape == (3, 64, 64)

    def test_a_second_input_gets_the_size_of_the_first(self) -> None:
        detector = {"type": "detr", "size_input": "orig_target_sizes"}
        description = described(detector, shape=(-1, 3, 48, 64), resize_type="pad")
        prepared = [description.prepare(tile(ramp(40, 40)))] * 2
        sizes = description.inputs(prepared)["orig_target_sizes"]
        assert sizes.dtype == np.int64
        assert sizes.tolist() == [[64, 48], [64, 48]]


@pytest.mark.parametrize(
    ("detector", "digest"),
    [
        ({"type": "yolov8"}, "780269646c72fba5"),
        ({"type": "yolov8", "end2end": True}, "a4a9d46b063b85c6"),
        ({"type": "yolox"}, "c36749f82f68ccf0"),
        ({"type": "detr"}, "4550571d717cde61"),
        ({"type": "torchvision"}, "bbd78e68f2939d67"),
    ],
    ids=str,
)
def test_answers_that_an_earlier_version_kept_are_those_of_the_same_description(
    tmp_path: Path, detector: dict[str, Any], digest: str
) -> None:
    """The digest of a description is of the identity under which a model's answers are kept."""
    path = write_json(tmp_path / "model.json", describe(detector))
    assert load_description(str(path), [tmp_path], None).version == digest


def test_a_format_of_boxes_is_for_those_after_nms(tmp_path: Path) -> None:
    detector = {"type": "yolov8", "box_format": "cxcywh"}
    path = write_json(tmp_path / "model.json", describe(detector))
    with pytest.raises(RequestError, match=r"box_format: is for boxes after NMS; give end2end"):
        load_description(str(path), [tmp_path], None)
