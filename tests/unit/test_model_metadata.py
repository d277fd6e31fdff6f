"""Models that describe themselves: the metadata of Ultralytics' exports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, open_image
from tasks.inference.endpoint import Boxes
from tasks.inference.onnx import OnnxEndpoint, open_onnx
from tasks.inference.tile_size import resolve_tile_size
from tasks.request import Request
from tasks.settings import settings
from tests import model_answers
from tests.onnx_models import answering, describe, of_ultralytics, write_json

BOX = [10.0, 20.0, 40.0, 50.0]
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
CELLS = 84  # of an input of 64 × 64: 8 × 8, 4 × 4 and 2 × 2


def scene(folder: Path, colours: tuple[ColorInterp, ...] = RGB, side: int = 64) -> Image:
    """An image whose bands hold 10, 20, 30 and so on."""
    shape = {"width": side, "height": side, "count": len(colours), "dtype": "uint8"}
    place = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}
    path = folder / f"{len(colours)}-{side}-{colours[0].value}.tif"
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as dataset:
        for band in range(len(colours)):
            dataset.write(np.full((side, side), 10 * (band + 1), np.uint8), band + 1)
        dataset.colorinterp = colours
    return open_image(str(path), roots=[folder])


def request(model: Path, tile_size: int | None = 64, **fields: Any) -> Request:
    sized = {} if tile_size is None else {"imageProcessorTileSize": tile_size}
    return Request.model_validate(
        {
            "jobId": "a",
            "imageUrls": ["s3://bucket/a.tif"],
            "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
            "imageProcessor": {"name": str(model), "type": "ONNX"},
            "imageProcessorTileOverlap": 8,
        }
        | sized
        | fields
    )


def opened(model: Path, image: Image | None = None, tile_size: int = 64) -> OnnxEndpoint:
    folder = model.parent
    return open_onnx(request(model, tile_size), image or scene(folder), [folder], 60)


def found(model: Path, pixels: NDArray[np.uint8] | None = None) -> Boxes:
    if pixels is None:
        pixels = np.zeros((3, 64, 64), np.uint8)
    tile = TilePixels(Tile(0, Window(0, 0, pixels.shape[2], pixels.shape[1])), pixels, None)
    endpoint = opened(model)
    (boxes,) = model_answers.boxes(endpoint.ask([endpoint.prepare(tile)]))
    endpoint.close()
    return boxes


def head(rows: int, columns: int, values: Mapping[int, list[float]]) -> NDArray[np.float32]:
    """An output (1, rows, columns), of which some rows are given."""
    output = np.zeros((1, rows, columns), np.float32)
    for row, numbers in values.items():
        output[0, row] = numbers
    return output


def yolov8(values: Mapping[int, list[float]], classes: int = 2) -> NDArray[np.float32]:
    return head(CELLS, 4 + classes, values).transpose(0, 2, 1)


def centred(box: list[float]) -> list[float]:
    return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]


def refusal(model: Path, **words: Any) -> str:
    with pytest.raises(RequestError) as raised:
        opened(model, **words)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


class TestHeads:
    """Each form of output that the exporter writes, decoded as Ultralytics' own code does."""

    @staticmethod
    def model(
        folder: Path, output: NDArray[np.float32], metadata: Mapping[str, str], **others: Any
    ) -> Path:
        outputs = {"output0": output} | others
        return answering(folder / "best.onnx", outputs, metadata=metadata)

    def test_yolov8_and_later_have_centres_and_a_score_for_each_class(self, tmp_path: Path) -> None:
        output = yolov8({3: [*centred(BOX), 0.2, 0.8], 9: [*centred(BOX), 0.1, 0.7]})
        boxes = found(self.model(tmp_path, output, of_ultralytics()))
        np.testing.assert_allclose(boxes.boxes, [BOX])
        np.testing.assert_allclose(boxes.scores, [0.8])
        assert [boxes.names[place] for place in boxes.classes] == ["barge"]

    def test_nms_within_a_tile_has_the_threshold_of_the_framework(self, tmp_path: Path) -> None:
        """Boxes of 20 × 20, the second 5 to the right: an IoU of 0.6, below 0.7 and above 0.45."""
        boxes = {0: [20, 20, 20, 20], 1: [25, 20, 20, 20]}
        output = yolov8({row: [*box, 0.9 - row / 10, 0] for row, box in boxes.items()})
        assert len(found(self.model(tmp_path, output, of_ultralytics())).boxes) == 2
        output = head(3 * CELLS, 7, {row: [*box, 0.9, 1, 0] for row, box in boxes.items()})
        metadata = {"names": "['ship', 'barge']", "stride": "32"}
        assert len(found(self.model(tmp_path, output, metadata)).boxes) == 1

    @pytest.mark.parametrize(
        "metadata",
        [
            {"args": {"nms": True}},
            {"end2end": True},
            {"description": "Ultralytics YOLOv10n model"},
        ],
        ids=["nms=True", "YOLO26", "YOLOv10"],
    )
    def test_an_output_after_nms_has_corners_score_and_class(
        self, tmp_path: Path, metadata: dict[str, object]
    ) -> None:
        output = head(300, 6, {0: [*BOX, 0.9, 1], 1: [*BOX, 0.8, 1], 2: [*BOX, 0.1, 0]})
        boxes = found(self.model(tmp_path, output, of_ultralytics(**metadata)))
        assert boxes.boxes.tolist() == [BOX, BOX]
        assert boxes.classes.tolist() == [1, 1]

    @pytest.mark.parametrize("names", [{0: "ship", 1: "barge"}, ["ship", "barge"]])
    def test_yolov5_has_objectness_and_writes_names_and_stride(
        self, tmp_path: Path, names: object
    ) -> None:
        metadata = {"names": str(names), "stride": "32"}
        output = head(3 * CELLS, 7, {0: [*centred(BOX), 0.5, 0.2, 0.8], 1: [5, 5, 4, 4, 0.2, 1, 0]})
        raw = {"raw": np.zeros((1, 3, 8, 8, 7), np.float32)}
        boxes = found(self.model(tmp_path, output, metadata, **raw))
        np.testing.assert_allclose(boxes.boxes, [BOX])
        np.testing.assert_allclose(boxes.scores, [0.4])
        assert boxes.classes.tolist() == [1]

    def test_yolov9_writes_as_yolov5_and_has_no_objectness(self, tmp_path: Path) -> None:
        metadata = {"names": "{0: 'ship', 1: 'barge'}", "stride": "32"}
        output = yolov8({0: [*centred(BOX), 0.9, 0]})
        assert found(self.model(tmp_path, output, metadata)).boxes.tolist() == [BOX]

    def test_yolov5_of_one_class_is_not_an_output_after_nms(self, tmp_path: Path) -> None:
        metadata = {"names": "{0: 'ship'}", "stride": "32"}
        output = head(3 * CELLS, 6, {0: [*centred(BOX), 0.5, 0.8]})
        np.testing.assert_allclose(found(self.model(tmp_path, output, metadata)).scores, [0.4])

    @pytest.mark.parametrize("title", ["Ultralytics rt-detr-l model", "Ultralytics best model"])
    def test_rt_detr_has_boxes_in_fractions_and_needs_no_nms(
        self, tmp_path: Path, title: str
    ) -> None:
        shares = (np.array(centred(BOX)) / 64).tolist()
        output = head(300, 6, {0: [*shares, 0.2, 0.8], 1: [*shares, 0.1, 0.7]})
        metadata = of_ultralytics(description=title, end2end=False)
        boxes = found(self.model(tmp_path, output, metadata))
        np.testing.assert_allclose(boxes.boxes, [BOX, BOX], atol=1e-5)
        np.testing.assert_allclose(boxes.scores, [0.8, 0.7])

    @pytest.mark.parametrize(
        ("classes", "declared"), [(2, (1, 300, 6)), (3, (1, 300, 6)), (2, ("n", "boxes", "six"))]
    )
    def test_rt_detr_since_2026_has_a_score_and_a_class(
        self, tmp_path: Path, classes: int, declared: tuple[int | str, ...]
    ) -> None:
        shares = (np.array(centred(BOX)) / 64).tolist()
        output = head(300, 6, {0: [*shares, 0.8, 1], 1: [*shares, 0.7, 0]})
        model = answering(
            tmp_path / "best.onnx",
            {"output0": output},
            declared={"output0": declared},
            metadata=of_ultralytics(
                description="Ultralytics rt-detr-l model",
                version="8.4.190",
                head="RTDETRDecoder",
                end2end=False,
                names=dict(enumerate(["ship", "barge", "pier"][:classes])),
            ),
        )
        boxes = found(model)
        np.testing.assert_allclose(boxes.boxes, [BOX, BOX], atol=1e-5)
        np.testing.assert_allclose(boxes.scores, [0.8, 0.7])
        assert [boxes.names[label] for label in boxes.classes] == ["barge", "ship"]

    def test_rows_that_fill_up_the_output_after_nms_are_no_boxes(self, tmp_path: Path) -> None:
        output = head(300, 6, {0: [*BOX, 0.8, 1]})
        model = self.model(tmp_path, output, of_ultralytics(end2end=True))
        asked = request(model, postProcessing=[{"algorithm": {"skipBoxThreshold": 0}}])
        endpoint = open_onnx(asked, scene(tmp_path), [tmp_path], 60)
        tile = TilePixels(Tile(0, Window(0, 0, 64, 64)), np.zeros((3, 64, 64), np.uint8), None)
        (boxes,) = model_answers.boxes(endpoint.ask([endpoint.prepare(tile)]))
        assert boxes.boxes.tolist() == [BOX]

    def test_a_dynamic_export_takes_tiles_of_any_size(self, tmp_path: Path) -> None:
        model = answering(
            tmp_path / "best.onnx",
            {"output0": yolov8({0: [*centred(BOX), 0.9, 0]})},
            shape=("batch", 3, "height", "width"),
            declared={"output0": ("batch", 6, "anchors")},
            metadata=of_ultralytics(args={"dynamic": True, "nms": False}),
        )
        endpoint = opened(model, scene(tmp_path, side=100), tile_size=100)
        tile = TilePixels(Tile(0, Window(0, 0, 100, 100)), np.zeros((3, 100, 100), np.uint8), None)
        prepared = endpoint.prepare(tile)
        assert prepared.tensor.shape == (3, 128, 128)
        (boxes,) = model_answers.boxes(endpoint.ask([prepared]))
        assert boxes.boxes.tolist() == [[-4, 6, 26, 36]]  # 14 pixels of padding to the left, above

    def test_a_half_precision_export_gets_half_precision(self, tmp_path: Path) -> None:
        output = yolov8({0: [*centred(BOX), 0.9, 0]}).astype(np.float16)
        model = answering(
            tmp_path / "best.onnx", {"output0": output}, dtype="float16", metadata=of_ultralytics()
        )
        assert found(model).boxes.tolist() == [BOX]


class TestInput:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        output = {"output0": yolov8({})}
        return answering(tmp_path / "best.onnx", output, metadata=of_ultralytics())

    def prepared(self, model: Path, image: Image) -> NDArray[Any]:
        endpoint = opened(model, image)
        with rasterio.open(image.path) as dataset:
            pixels = dataset.read()
        window = Window(0, 0, image.width, image.height)
        tensor: NDArray[Any] = endpoint.prepare(TilePixels(Tile(0, window), pixels, None)).tensor
        return tensor

    def test_it_is_rgb_from_0_to_1(self, model: Path, tmp_path: Path) -> None:
        tensor = self.prepared(model, scene(tmp_path))
        assert tensor.shape == (3, 64, 64)
        assert tensor.dtype == np.float32
        np.testing.assert_allclose(tensor[:, 0, 0], np.array([10, 20, 30]) / 255, rtol=1e-6)

    def test_bands_are_chosen_by_name_where_the_image_names_them(
        self, model: Path, tmp_path: Path
    ) -> None:
        tensor = self.prepared(model, scene(tmp_path, (*RGB[::-1], ColorInterp.undefined)))
        np.testing.assert_allclose(tensor[:, 0, 0], np.array([30, 20, 10]) / 255, rtol=1e-6)

    def test_bands_without_names_are_taken_in_order(self, model: Path, tmp_path: Path) -> None:
        tensor = self.prepared(model, scene(tmp_path, (ColorInterp.undefined,) * 3))
        np.testing.assert_allclose(tensor[:, 0, 0], np.array([10, 20, 30]) / 255, rtol=1e-6)

    def test_an_image_with_other_bands_is_refused_with_the_command_to_describe(
        self, model: Path, tmp_path: Path
    ) -> None:
        message = refusal(model, image=scene(tmp_path, (ColorInterp.gray,)))
        assert "takes 3 bands where the image has 1" in message
        assert f"swath models describe {model} --out {model.with_suffix('.json')}" in message

    def test_a_smaller_image_is_enlarged_and_padded_on_all_sides(self, model: Path) -> None:
        """As Ultralytics' LetterBox: 32 × 16 becomes 64 × 32, with 16 rows of 114 on each side."""
        pixels = np.full((3, 16, 32), 200, np.uint8)
        tile = TilePixels(Tile(0, Window(0, 0, 32, 16)), pixels, None)
        tensor = opened(model).prepare(tile).tensor
        np.testing.assert_allclose(
            tensor[0, [0, 15, 16, 47, 48], 5] * 255, [114, 114, 200, 200, 114]
        )


class TestTileSize:
    @pytest.fixture(autouse=True)
    def roots(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
        settings.cache_clear()

    @staticmethod
    def model(folder: Path, **words: Any) -> Path:
        metadata = of_ultralytics(imgsz=words.pop("imgsz", [64, 64]))
        output = {"output0": yolov8({})}
        return answering(folder / "best.onnx", output, metadata=metadata, **words)

    def test_it_is_that_of_the_export_where_none_is_given(self, tmp_path: Path) -> None:
        assert resolve_tile_size(request(self.model(tmp_path), None)).tile_size == 64

    def test_a_given_one_is_kept(self, tmp_path: Path) -> None:
        model = self.model(tmp_path)
        for size in (512, 1024):
            assert resolve_tile_size(request(model, size)).tile_size == size

    def test_it_is_the_shorter_side_of_an_export_that_is_not_square(self, tmp_path: Path) -> None:
        model = self.model(tmp_path, shape=(1, 3, 64, 96), imgsz=[64, 96])
        assert resolve_tile_size(request(model, None)).tile_size == 64

    def test_a_dynamic_export_has_the_size_that_it_was_exported_with(self, tmp_path: Path) -> None:
        model = self.model(tmp_path, shape=("b", 3, "h", "w"), imgsz=[320, 320])
        assert resolve_tile_size(request(model, None)).tile_size == 320

    def test_it_is_that_of_the_description_where_there_is_one(self, tmp_path: Path) -> None:
        model = self.model(tmp_path)
        write_json(model.with_suffix(".json"), describe({"type": "yolov8"}, shape=(1, 3, 96, 96)))
        assert resolve_tile_size(request(model, None)).tile_size == 96

    def test_a_served_model_has_that_of_its_description(self, tmp_path: Path) -> None:
        described = write_json(tmp_path / "a.json", describe({"type": "yolov8"}))
        asking = request(
            Path("x.onnx"),
            None,
            imageProcessor={"name": "http://a.example/v2/models/ships", "type": "OIP_ENDPOINT"},
            imageProcessorParameters={"description": str(described)},
        )
        assert resolve_tile_size(asking).tile_size == 64

    def test_a_description_of_any_size_leaves_the_default(self, tmp_path: Path) -> None:
        model = self.model(tmp_path)
        write_json(model.with_suffix(".json"), describe({"type": "yolov8"}, shape=(1, 3, -1, -1)))
        assert resolve_tile_size(request(model, None)).tile_size == 1024

    def test_an_overlap_that_is_not_below_it_is_refused(self, tmp_path: Path) -> None:
        asking = request(self.model(tmp_path), None, imageProcessorTileOverlap=64)
        told = r"imageProcessorTileOverlap: 64 is not below imageProcessorTileSize 64; .*best.onnx"
        with pytest.raises(RequestError, match=told):
            resolve_tile_size(asking)

    def test_a_size_that_no_tile_may_have_is_refused(self, tmp_path: Path) -> None:
        model = self.model(tmp_path, shape=("b", 3, "h", "w"), imgsz=[8, 8])
        with pytest.raises(RequestError, match=r"imageProcessorTileSize: 8 is below 16"):
            resolve_tile_size(request(model, None, imageProcessorTileOverlap=0))


class TestThreshold:
    """Boxes of 0.9, 0.2 and 0.1; a detector drops those below 0.25."""

    @staticmethod
    def scores(folder: Path, described: Mapping[str, Any] | None, **algorithm: Any) -> list[float]:
        corners = [centred([x, 0.0, x + 8, 8.0]) for x in (0, 20, 40)]
        rows = {
            place: [*box, score, 0]
            for place, (box, score) in enumerate(zip(corners, (0.9, 0.2, 0.1), strict=True))
        }
        model = answering(
            folder / "best.onnx", {"output0": yolov8(rows)}, metadata=of_ultralytics()
        )
        if described is not None:
            write_json(
                model.with_suffix(".json"),
                describe({"type": "yolov8"} | dict(described), output="output0"),
            )
        asking = request(model, postProcessing=[{"algorithm": algorithm}])
        endpoint = open_onnx(asking, scene(folder), [folder], 60)
        tile = TilePixels(Tile(0, Window(0, 0, 64, 64)), np.zeros((3, 64, 64), np.uint8), None)
        (boxes,) = model_answers.boxes(endpoint.ask([endpoint.prepare(tile)]))
        scores: list[float] = boxes.scores.astype(float).round(3).tolist()
        return scores

    @pytest.mark.parametrize(
        ("described", "algorithm", "scores"),
        [
            (None, {}, [0.9]),
            (None, {"skipBoxThreshold": 0.15}, [0.9, 0.2]),
            (None, {"skipBoxThreshold": 0.95}, [0.9]),
            (None, {"classThresholds": {"barge": 0.05}}, [0.9, 0.2, 0.1]),
            ({}, {"skipBoxThreshold": 0.15}, [0.9, 0.2]),
            ({"score_threshold": 0.25}, {"skipBoxThreshold": 0.15}, [0.9]),
        ],
    )
    def test_a_request_lowers_a_threshold_that_nobody_gave(
        self,
        tmp_path: Path,
        described: Mapping[str, Any] | None,
        algorithm: dict[str, Any],
        scores: list[float],
    ) -> None:
        assert self.scores(tmp_path, described, **algorithm) == scores


class TestDescriptions:
    def test_a_description_wins_over_the_metadata(self, tmp_path: Path) -> None:
        output = {"output0": yolov8({0: [*centred(BOX), 0.9, 0]})}
        model = answering(tmp_path / "best.onnx", output, metadata=of_ultralytics(task="segment"))
        described = describe({"type": "yolov8"}, classes=("tug", "ferry"), output="output0")
        write_json(model.with_suffix(".json"), described)
        assert found(model).names == ["tug", "ferry"]

    def test_a_named_description_that_is_missing_is_an_error(self, tmp_path: Path) -> None:
        model = answering(
            tmp_path / "best.onnx", {"output0": yolov8({})}, metadata=of_ultralytics()
        )
        named = {"description": str(tmp_path / "none.json")}
        asking = request(model, imageProcessorParameters=named)
        with pytest.raises(RequestError, match=r"none.json: there is no such file"):
            open_onnx(asking, scene(tmp_path), [tmp_path], 60)

    def test_without_both_the_command_to_describe_is_named(self, tmp_path: Path) -> None:
        model = answering(tmp_path / "best.onnx", {"output0": yolov8({})})
        assert "swath models describe" in refusal(model)


class TestRefusals:
    @staticmethod
    def model(folder: Path, metadata: Mapping[str, str], **words: Any) -> Path:
        return answering(folder / "best.onnx", {"output0": yolov8({})}, metadata=metadata, **words)

    @pytest.mark.parametrize(
        ("task", "answer"),
        [
            ("pose", "keypoints"),
            ("gaze", "'gaze'"),
        ],
    )
    def test_another_task_is_named(self, tmp_path: Path, task: str, answer: str) -> None:
        message = refusal(self.model(tmp_path, of_ultralytics(task=task)))
        assert repr(task) in message
        assert answer in message
        assert "HTTP_ENDPOINT" in message

    def test_masks_of_yolov5_are_named(self, tmp_path: Path) -> None:
        outputs = {
            "output0": np.zeros((1, 3 * CELLS, 39), np.float32),
            "output1": np.zeros((1, 32, 16, 16), np.float32),
        }
        metadata = {"names": "['ship', 'barge']", "stride": "32"}
        model = answering(tmp_path / "best.onnx", outputs, metadata=metadata)
        message = refusal(model)
        assert "is a YOLOv5 for the task 'segment', which answers with masks of objects" in message
        assert "segment (YOLOv8 and later)" in message

    @pytest.mark.parametrize(
        ("entries", "parts"),
        [
            ({"imgsz": [640, 640]}, ["'imgsz'", "[640, 640]", "[1, 3, 64, 64]", "'images'"]),
            ({"imgsz": [64, 96]}, ["'imgsz'", "[64, 96]", "[1, 3, 64, 64]"]),
            ({"channels": 4}, ["'channels'", "4", "[1, 3, 64, 64]"]),
            ({"names": {0: "ship"}}, ["'names'", "1 classes", "[1, 6, 84]", "'output0'"]),
            ({"end2end": True}, ["'names'", "[1, 6, 84]"]),
        ],
    )
    def test_what_contradicts_the_graph_is_named_with_it(
        self, tmp_path: Path, entries: dict[str, object], parts: list[str]
    ) -> None:
        message = refusal(self.model(tmp_path, of_ultralytics(**entries)))
        for part in parts:
            assert part in message

    @pytest.mark.parametrize(
        ("names", "reason"),
        [
            ('__import__("os").system("touch hacked")', "is not a literal"),
            ("{0: open('/etc/passwd')}", "is not a literal"),
            ("{0: 'ship'", "is not a literal"),
            ("-" * 500_000 + "1", "is not a literal"),
            ("[" * 300_000 + "]" * 300_000, "is not a literal"),
            ("{0: '" + "x" * (1 << 20) + "'}", "characters, more than"),
            ("{0: 'ship', 1: 7}", "'7' as class 1, no text"),
            ("{0: 'ship', -1: 'barge'}", "does not number the classes 0, 1, 2"),
            ("{0: 'ship', 2: 'barge'}", "does not number the classes 0, 1, 2"),
            ("{0: 'ship', True: 'barge'}", "does not number the classes 0, 1, 2"),
            ("{'a': 'ship', 'b': 'barge'}", "does not number the classes 0, 1, 2"),
            ("{0: 'ship', 0: 'barge'}", "has 1 classes"),
            ("{(): 'ship', 1: 'barge'}", "does not number the classes 0, 1, 2"),
            ("{[]: 'ship'}", "is not a literal"),
            ("{}", "is not a list of classes"),
            ("7", "is not a list of classes"),
            ("{0: '', 1: 'barge'}", "'' as class 0, no text of 1 to 1000"),
            ("{0: '" + "x" * 2000 + "', 1: 'b'}", "as class 0, no text of 1 to 1000"),
            (r"{0: '\d', 1: 7}", "no text of 1 to 1000 characters"),
        ],
        ids=range(19),
    )
    def test_hostile_names_are_refused_and_nothing_is_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str, reason: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        message = refusal(self.model(tmp_path, of_ultralytics(names=names)))
        assert reason in message
        assert len(message) < 1000
        assert not (tmp_path / "hacked").exists()

    def test_names_of_many_megabytes_are_refused(self, tmp_path: Path) -> None:
        metadata = of_ultralytics(names="{0: '" + "x" * 20_000_000 + "'}")
        assert "20000007 characters, more than" in refusal(self.model(tmp_path, metadata))

    def test_arguments_of_the_export_that_are_no_literal_are_ignored(self, tmp_path: Path) -> None:
        metadata = of_ultralytics(args="{'device': device(type='cpu'), 'nms': True}")
        assert found(self.model(tmp_path, metadata)).boxes.shape == (0, 4)

    def test_two_classes_may_have_the_same_name(self, tmp_path: Path) -> None:
        metadata = of_ultralytics(names={0: "ship", 1: "ship"})
        assert found(self.model(tmp_path, metadata)).names == ["ship", "ship"]

    @pytest.mark.parametrize(
        ("entry", "text"),
        [
            ("stride", "0"),
            ("stride", "-32"),
            ("stride", "True"),
            ("stride", "32.5"),
            ("stride", "9" * 5000),
            ("imgsz", "[64]"),
            ("imgsz", "[64, 'a']"),
            ("imgsz", "{}"),
            ("imgsz", "[-64, 64]"),
            ("channels", "None"),
            ("end2end", "yes"),
        ],
    )
    def test_other_hostile_entries_are_named(self, tmp_path: Path, entry: str, text: str) -> None:
        message = refusal(self.model(tmp_path, of_ultralytics(**{entry: text})))
        assert f"the entry {entry!r} of its metadata" in message

    def test_metadata_that_are_no_text_are_refused(self, tmp_path: Path) -> None:
        model = self.model(tmp_path, of_ultralytics())
        model.write_bytes(
            model.read_bytes().replace(b"Ultralytics YOLO11n", b"Ultralytics \xff\xfeLO11n")
        )
        assert "cannot run this model" in refusal(model)


class TestFiles:
    def test_a_pointer_of_git_lfs_is_named(self, tmp_path: Path) -> None:
        model = tmp_path / "best.onnx"
        model.write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345678\n"
        )
        assert "git lfs pull" in refusal(model)

    def test_a_folder_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "best.onnx").mkdir()
        assert "is a folder" in refusal(tmp_path / "best.onnx")

    @pytest.mark.parametrize(
        ("name", "kind", "command"),
        [
            ("runs/best.pt", "BUILTIN", "yolo export model=runs/best.pt format=onnx imgsz=640"),
            ("s3://models/best.PT", "ONNX", "yolo export model=s3://models/best.PT format=onnx"),
            ("resnet.pth", "BUILTIN", 'torch.onnx.export(model, torch.zeros(1, 3, 640, 640), "res'),
            ("best.torchscript", "BUILTIN", "yolo export model=best.pt format=onnx"),
            ("best.engine", "ONNX", "one kind of GPU"),
            ("best.tflite", "BUILTIN", "tf2onnx.convert --tflite best.tflite --output best.onnx"),
            ("yolo11n.yaml", "BUILTIN", "has no weights"),
            ("best.onnx.data", "BUILTIN", "give the .onnx file beside it"),
        ],
    )
    def test_a_model_of_another_format_is_answered_with_the_command(
        self, name: str, kind: str, command: str
    ) -> None:
        message = request(Path("x.onnx")).model_dump(mode="json")
        message["imageProcessor"] = {"name": name, "type": kind}
        with pytest.raises(RequestError) as raised:
            Request.parse(json.dumps(message))
        assert str(raised.value).startswith("imageProcessor.name: ")
        assert command in str(raised.value)
