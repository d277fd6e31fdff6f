"""Decoding the outputs of each family of detectors as its own implementation does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import AnswerError
from tasks.grid.tiles import Tile
from tasks.imagery import TilePixels
from tasks.inference.description import Description, PreparedTile
from tasks.inference.description.properties import Properties
from tasks.inference.endpoint import Boxes
from tests import model_answers
from tests.examples import examples
from tests.onnx_models import describe

CLASSES = ("ship", "aircraft", "car")
SIZE = (96, 64)  # of the input: width, height
SHAPE = (-1, 3, 64, 96)
YOLOX = {"type": "yolox", "score_threshold": 0.5}
YOLOV8 = {"type": "yolov8", "score_threshold": 0.5}
CELLS = 96 * 64 // 64 + 96 * 64 // 256 + 96 * 64 // 1024

WIDTHS = st.floats(1, 96)
BOXES = st.tuples(st.floats(-10, 95), st.floats(-10, 63), WIDTHS, WIDTHS).map(
    lambda given: [given[0], given[1], given[0] + given[2], given[1] + given[3]]
)


def described(detector: Mapping[str, Any], **words: Any) -> Description:
    words = {"classes": CLASSES, "shape": SHAPE, "resize_type": "interpolation-linear"} | words
    return Description("model.json", Properties.model_validate(describe(detector, **words)))


def blank(description: Description, size: tuple[int, int] = SIZE) -> PreparedTile:
    pixels = np.zeros((3, size[1], size[0]), np.uint8)
    return description.prepare(TilePixels(Tile(0, Window(0, 0, *size)), pixels, None))


def read(
    detector: Mapping[str, Any], outputs: Mapping[str, Any], tiles: int = 1, **words: Any
) -> list[Boxes]:
    description = described(detector, **words)
    arrays = {name: np.asarray(values) for name, values in outputs.items()}
    return model_answers.boxes(description.decode(arrays, [blank(description)] * tiles))


def centred(box: Sequence[float]) -> list[float]:
    return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]


def yolox_cells() -> list[tuple[int, int, int]]:
    """Column, row and stride of each cell, in the order of the head."""
    return [
        (column, row, stride)
        for stride in (8, 16, 32)
        for row in range(SIZE[1] // stride)
        for column in range(SIZE[0] // stride)
    ]


def yolox_head(at: Mapping[int, tuple[Sequence[float], float, int]]) -> NDArray[np.float32]:
    """A raw head with a box, objectness and class in some of its cells."""
    head = np.zeros((1, CELLS, 5 + len(CLASSES)), np.float32)
    cells = yolox_cells()
    for place, (box, objectness, label) in at.items():
        column, row, stride = cells[place]
        x, y, width, height = centred(box)
        head[0, place, :4] = (
            x / stride - column,
            y / stride - row,
            np.log(width / stride),
            np.log(height / stride),
        )
        head[0, place, 4] = objectness
        head[0, place, 5 + label] = 0.9
    return head


class TestYolox:
    @settings(deadline=None)
    @given(box=BOXES, cell=st.integers(0, CELLS - 1), label=st.integers(0, 2))
    def test_a_box_of_any_cell_is_decoded(self, box: list[float], cell: int, label: int) -> None:
        (found,) = read(YOLOX, {"output": yolox_head({cell: (box, 0.8, label)})})
        np.testing.assert_allclose(found.boxes, [box], atol=1e-3)
        np.testing.assert_allclose(found.scores, [0.72], rtol=1e-6)
        assert [found.names[place] for place in found.classes] == [CLASSES[label]]

    def test_an_export_that_is_decoded_is_in_pixels(self) -> None:
        head = np.zeros((1, CELLS, 8), np.float32)
        head[0, 5] = [30, 20, 10, 6, 0.9, 0, 0, 1]
        (found,) = read(YOLOX | {"decoded": True}, {"output": head})
        assert found.boxes.tolist() == [[25, 17, 35, 23]]
        assert found.classes.tolist() == [2]

    def test_a_score_is_objectness_times_class(self) -> None:
        boxes = {0: ([0, 0, 8, 8], 0.5, 0), 90: ([40, 40, 50, 50], 0.6, 0)}
        (found,) = read(YOLOX, {"output": yolox_head(boxes)})
        assert len(found.boxes) == 1
        assert found.scores[0] == pytest.approx(0.54)

    def test_suppression_is_by_class_and_keeps_the_best(self) -> None:
        boxes = {
            0: ([10, 10, 30, 30], 0.8, 0),
            1: ([11, 10, 31, 30], 0.9, 0),
            2: ([10, 11, 30, 31], 0.7, 1),
        }
        (found,) = read(YOLOX, {"output": yolox_head(boxes)})
        np.testing.assert_allclose(found.boxes, [[11, 10, 31, 30], [10, 11, 30, 31]], atol=1e-3)
        (every,) = read(YOLOX | {"nms_iou_threshold": 1}, {"output": yolox_head(boxes)})
        assert len(every.boxes) == 3

    @pytest.mark.parametrize("shape", [(1, CELLS, 9), (1, CELLS - 1, 8), (CELLS, 8, 1, 1), (0, 8)])
    def test_another_head_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(AnswerError, match=r"where a YOLOX head|has the shape"):
            read(YOLOX, {"output": np.zeros(shape, np.float32)})

    def test_nan_scores_are_refused(self) -> None:
        for column in (4, 6):
            head = yolox_head({0: ([0, 0, 8, 8], 0.9, 0)})
            head[0, 0, column] = np.nan
            with pytest.raises(AnswerError, match="NaN"):
                read(YOLOX, {"output": head})

    def test_an_infinite_box_is_kept_for_the_check_of_the_answer(self) -> None:
        head = yolox_head({0: ([0, 0, 8, 8], 0.9, 0), 3: ([20, 20, 28, 28], 0.8, 0)})
        head[0, 0, 2] = 5000
        (found,) = read(YOLOX, {"output": head})
        assert np.isfinite(found.boxes).all(axis=1).tolist() == [True, False]


class TestYolov8:
    @settings(deadline=None)
    @given(box=BOXES, label=st.integers(0, 2), transposed=st.booleans())
    def test_a_box_is_decoded_from_either_layout(
        self, box: list[float], label: int, transposed: bool
    ) -> None:
        head = np.zeros((1, 7, 40), np.float32)
        head[0, :4, 11] = centred(box)
        head[0, 4 + label, 11] = 0.75
        output = head.transpose(0, 2, 1) if transposed else head
        (found,) = read(YOLOV8, {"output": output})
        np.testing.assert_allclose(found.boxes, [box], atol=1e-3)
        assert found.scores.tolist() == [0.75]
        assert [found.names[place] for place in found.classes] == [CLASSES[label]]

    def test_a_box_has_its_best_class_and_suppression_is_by_class(self) -> None:
        head = np.zeros((1, 7, 3), np.float32)
        head[0, :4] = np.array([[20, 20, 10, 10]] * 3).T
        head[0, 4:] = [[0.9, 0.6, 0.1], [0.8, 0.7, 0.1], [0.1, 0.1, 0.95]]
        head[0, 5, 1] = 0.9
        head[0, 4, 1] = 0.95
        (found,) = read(YOLOV8, {"output": head})
        np.testing.assert_allclose(found.scores, [0.95, 0.95], rtol=1e-6)
        assert found.classes.tolist() == [0, 2]

    def test_an_end2end_export_is_read_as_it_is(self) -> None:
        rows = [[1, 2, 30, 40, 0.9, 1], [1, 2, 30, 40, 0.8, 1], [5, 5, 9, 9, 0.4, 0]]
        (found,) = read(YOLOV8 | {"end2end": True}, {"output": np.array([rows], np.float32)})
        assert found.boxes.tolist() == [[1, 2, 30, 40]] * 2
        assert found.classes.tolist() == [1, 1]

    @pytest.mark.parametrize(
        ("end2end", "shape"), [(False, (1, 8, 40)), (True, (1, 40, 7)), (False, (7, 40, 2, 1))]
    )
    def test_another_head_is_refused(self, end2end: bool, shape: tuple[int, ...]) -> None:
        with pytest.raises(AnswerError, match=r"classification:classes|has the shape"):
            read(YOLOV8 | {"end2end": end2end}, {"output": np.zeros(shape, np.float32)})

    def test_nan_scores_are_refused(self) -> None:
        with pytest.raises(AnswerError, match="NaN"):
            read(YOLOV8, {"output": np.full((1, 7, 40), np.nan, np.float32)})


class TestDetr:
    BOX = (10.0, 20.0, 58.0, 52.0)
    SHARES = (34 / 96, 36 / 64, 48 / 96, 32 / 64)

    def test_softmax_has_a_last_column_for_no_object(self) -> None:
        logits = np.full((1, 2, 4), -20, np.float32)
        logits[0, 0, 1] = logits[0, 1, 3] = 20
        boxes = np.array([[self.SHARES, self.SHARES]], np.float32)
        detector = {"type": "detr", "activation": "softmax"}
        (found,) = read(detector, {"logits": logits, "boxes": boxes})
        np.testing.assert_allclose(found.boxes, [self.BOX], atol=1e-4)
        assert found.classes.tolist() == [1]
        assert found.scores[0] == pytest.approx(1)

    def test_sigmoid_gives_a_query_any_of_its_classes(self) -> None:
        logits = np.full((1, 2, 3), -20, np.float32)
        logits[0, 0] = [0, np.log(3), -20]  # a half, and three quarters
        boxes = np.array([[self.SHARES, self.SHARES]], np.float32)
        detector = {
            "type": "detr",
            "activation": "sigmoid",
            "outputs": {"boxes": "pred_boxes", "logits": "pred_logits"},
        }
        (found,) = read(detector, {"pred_logits": logits, "pred_boxes": boxes})
        np.testing.assert_allclose(found.scores, [0.75, 0.5], rtol=1e-6)
        assert found.classes.tolist() == [1, 0]
        np.testing.assert_allclose(found.boxes, [self.BOX] * 2, atol=1e-4)

    def test_sigmoid_gives_no_more_boxes_than_queries(self) -> None:
        outputs = {"logits": np.array([[[3.0, 2, 1], [6, 5, 4]]]), "boxes": [[self.SHARES] * 2]}
        (found,) = read({"type": "detr", "activation": "sigmoid"}, outputs)
        np.testing.assert_allclose(found.scores, 1 / (1 + np.exp([-6.0, -5])))

    def test_a_postprocessed_export_is_in_pixels_of_the_input(self) -> None:
        outputs = {
            "labels": np.array([[2, 0]]),
            "boxes": np.array([[self.BOX, self.BOX]], np.float32),
            "scores": np.array([[0.9, 0.1]], np.float32),
        }
        (found,) = read({"type": "detr"}, outputs)
        assert found.boxes.tolist() == [list(self.BOX)]
        assert found.classes.tolist() == [2]

    @pytest.mark.parametrize(
        ("activation", "columns"), [("softmax", 3), ("sigmoid", 4), ("sigmoid", 2)]
    )
    def test_other_columns_than_classes_are_refused(self, activation: str, columns: int) -> None:
        outputs = {"logits": np.zeros((1, 5, columns)), "boxes": np.zeros((1, 5, 4))}
        with pytest.raises(AnswerError, match="columns"):
            read({"type": "detr", "activation": activation}, outputs)

    def test_outputs_of_different_lengths_are_refused(self) -> None:
        outputs = {"logits": np.zeros((1, 5, 3)), "boxes": np.zeros((1, 4, 4))}
        with pytest.raises(AnswerError, match="do not match"):
            read({"type": "detr", "activation": "sigmoid"}, outputs)

    def test_an_unknown_role_is_refused(self) -> None:
        with pytest.raises(ValueError, match="the roles are boxes, labels, scores"):
            described({"type": "detr", "outputs": {"logits": "a"}})


class TestTorchvision:
    OUTPUTS = {  # noqa: RUF012
        "boxes": np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32),
        "labels": np.array([1, 3]),
        "scores": np.array([0.9, 0.3], np.float32),
    }

    def test_outputs_of_a_single_tile_need_no_batch_dimension(self) -> None:
        (found,) = read({"type": "torchvision"}, self.OUTPUTS, first_class=1)
        assert found.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
        assert [found.names[place] for place in found.classes] == ["ship", "car"]

    def test_nothing_found_is_no_boxes(self) -> None:
        outputs = {
            "boxes": np.zeros((0, 4), np.float32),
            "labels": np.zeros(0, np.int64),
            "scores": np.zeros(0, np.float32),
        }
        (found,) = read({"type": "torchvision"}, outputs, first_class=1)
        assert found.boxes.shape == (0, 4)

    @pytest.mark.parametrize(
        ("form", "box"), [("cxcywh", [2, 3, 2, 2]), ("xywh", [1, 2, 2, 2]), ("xyxy", [1, 2, 3, 4])]
    )
    def test_boxes_may_have_any_format_in_pixels_or_fractions(
        self, form: str, box: list[float]
    ) -> None:
        shares = np.array([box], np.float64) / (SIZE * 2)
        outputs = {"boxes": shares, "labels": np.array([1]), "scores": np.array([0.9])}
        detector = {"type": "torchvision", "box_format": form, "normalized": True}
        (found,) = read(detector, outputs)
        np.testing.assert_allclose(found.boxes, [[1, 2, 3, 4]])

    def test_a_label_without_a_class_is_refused(self) -> None:
        outputs = self.OUTPUTS | {"labels": np.array([1, 17])}
        with pytest.raises(AnswerError, match="class 17, which is not in classification:classes"):
            read({"type": "torchvision"}, outputs, first_class=1)

    def test_a_missing_output_is_named(self) -> None:
        outputs = {name: self.OUTPUTS[name] for name in ("boxes", "labels")}
        with pytest.raises(AnswerError, match="no output 'scores'; its outputs are boxes, labels"):
            read({"type": "torchvision"}, outputs, first_class=1)


class TestBatches:
    def test_each_tile_has_its_own_boxes_and_padding_rows_are_ignored(self) -> None:
        heads = [yolox_head({5: ([x, 4, x + 9, 14], 0.9, 0)}) for x in (1, 30, 60)]
        found = read(YOLOX, {"output": np.concatenate(heads)}, tiles=2)
        assert [boxes.boxes[0, 0].round(2) for boxes in found] == [1, 30]

    def test_fewer_rows_than_tiles_are_refused(self) -> None:
        with pytest.raises(AnswerError, match="of 2 tiles"):
            read(YOLOX, {"output": np.zeros((1, CELLS, 8), np.float32)}, tiles=2)

    def test_one_output_of_many_is_decoded_by_its_name(self) -> None:
        outputs = {"mask": np.zeros(3), "head": yolox_head({5: ([1, 4, 9, 14], 0.9, 0)})}
        assert len(read(YOLOX, outputs, output="head")[0].boxes) == 1
        with pytest.raises(AnswerError, match="several outputs, mask, head; name the one"):
            read(YOLOX, outputs, output=None)

    def test_of_several_listed_outputs_that_with_the_task_is_decoded(self) -> None:
        document = describe(YOLOX, classes=CLASSES, shape=SHAPE, output="head")
        mask = {"name": "mask", "tasks": ["semantic-segmentation"]}
        document["mlm:output"].insert(0, mask)
        description = Description("model.json", Properties.model_validate(document))
        assert description.outputs == ("head",)
        assert [one.name for one in description.properties.classes] == list(CLASSES)


@examples(2)
@given(
    tile=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    corner=st.tuples(st.floats(-0.5, 1), st.floats(-0.5, 1)),
    share=st.tuples(st.floats(0.01, 1.2), st.floats(0.01, 1.2)),
    letterbox=st.sampled_from([None, "corner", "centre"]),
)
def test_a_box_of_a_tile_of_any_size_is_decoded(
    tile: tuple[int, int],
    corner: tuple[float, float],
    share: tuple[float, float],
    letterbox: str | None,
) -> None:
    """A box that overlaps the tile, placed in the input by the definition of a letterbox."""
    assume(all(-extent + 0.01 < start < 0.99 for start, extent in zip(corner, share, strict=True)))
    detector = {"type": "torchvision", "letterbox": letterbox}
    description = described(detector, shape=(1, 3, 64, 96))
    prepared = blank(description, tile)
    assert prepared.tensor.shape == (3, 64, 96)
    low = np.array(corner) * tile
    box = np.concatenate([low, low + np.array(share) * tile])
    content = np.array(SIZE, float)
    if letterbox:
        content = np.maximum(1, np.round(np.array(tile) * (content / tile).min()))
    scale = content / tile
    pad = (np.array(SIZE) - content) // 2 if letterbox == "centre" else np.zeros(2)
    placed = box * np.tile(scale, 2) + np.tile(pad, 2)
    outputs = {
        "boxes": placed[np.newaxis].astype(np.float32),
        "labels": np.array([0]),
        "scores": np.array([0.5], np.float32),
    }
    (found,) = model_answers.boxes(description.decode(outputs, [prepared]))
    error = 4 * np.finfo(np.float32).eps * np.abs(placed).max() / scale.min()
    np.testing.assert_allclose(found.boxes, [box], atol=error + 1e-9)
