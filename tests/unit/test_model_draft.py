"""`swath models describe`: descriptions drafted from a model's file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deployments.describe import describe
from deployments.models import list_models
from tasks.errors import RequestError, SwathError
from tasks.inference.builtin import MODELS
from tasks.inference.description import load_description
from tasks.inference.description.inspection import (
    describe_export,
    draft_description,
    is_export,
    tile_size_of_export,
)
from tasks.inference.description.load import description_of
from tasks.inference.description.placeholders import find_placeholders
from tasks.inference.description.signature import ModelSignature, TensorSpec
from tests.examples import examples
from tests.onnx_models import COCO, SHARED, YOLOX, answering, of_ultralytics, yolox_nano

CLOUDS = SHARED / "models" / "cloudmask_4b_l1c.onnx"
CELLS = 8400  # of an input of 640 × 640

Shapes = Mapping[str, Sequence[int | None]]


def signature(outputs: Shapes, inputs: Shapes | None = None, **metadata: str) -> ModelSignature:
    inputs = inputs or {"images": (1, 3, 640, 640)}
    types = {"labels": "int64", "orig_target_sizes": "int64", "1": "int64"}

    def specs(tensors: Shapes) -> dict[str, TensorSpec]:
        return {
            name: TensorSpec(types.get(name, "float32"), tuple(shape))
            for name, shape in tensors.items()
        }

    return ModelSignature("ships.onnx", specs(inputs), specs(outputs), metadata)


def complete(document: Any) -> Any:
    """The draft, filled in: each placeholder is replaced by a value that is valid there."""
    text = json.dumps(document)
    for _, wanted in find_placeholders(document):
        value = "sigmoid" if "sigmoid" in wanted else "ship" if "class" in wanted else None
        value = "yolox" if wanted.startswith("yolox") else value
        text = text.replace(json.dumps(f"FILL IN: {wanted}"), json.dumps(value))
    return json.loads(text)


def run(model: Path, out: str | None = None, *, force: bool = False) -> str:
    """What the command says."""
    console = Console(record=True, width=200, quiet=False, stderr=True)
    assert describe(str(model), out, console, force=force) == 0
    return console.export_text()


TORCHVISION = {"boxes": (None, 4), "labels": (None,), "scores": (None,)}


@pytest.mark.parametrize(
    ("outputs", "inputs", "detector", "classes"),
    [
        ({"output": (1, CELLS, 85)}, None, {"type": "yolox", "decoded": False}, 80),
        ({"output": (1, 3 * CELLS, 7)}, None, {"type": "yolox", "decoded": True}, 2),
        ({"output": (1, 84, CELLS)}, None, {"type": "yolov8"}, 80),
        ({"output": (None, 6, None)}, None, {"type": "yolov8"}, 2),
        ({"output": (1, 300, 6)}, None, {"type": "yolov8", "end2end": True}, 1),
        ({"output": (1, 300, 7)}, None, {"type": "yolov8-obb", "end2end": True}, 1),
        (TORCHVISION, None, {"type": "torchvision"}, 1),
        (
            {"0": (None, 4), "1": (None,), "2": (None,)},
            None,
            {
                "type": "torchvision",
                "outputs": {"boxes": "0", "labels": "1", "scores": "2"},
            },
            1,
        ),
        (
            {"labels": (1, 300), "boxes": (1, 300, 4), "scores": (1, 300)},
            {"images": (1, 3, 640, 640), "orig_target_sizes": (1, 2)},
            {"type": "detr", "size_input": "orig_target_sizes"},
            1,
        ),
        (
            {"pred_logits": (1, 300, 3), "pred_boxes": (1, 300, 4)},
            None,
            {"type": "detr", "outputs": {"logits": "pred_logits", "boxes": "pred_boxes"}},
            1,
        ),
        ({"who_knows": (1, 17, 4)}, None, {}, 1),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_family_is_recognised_and_the_draft_is_valid_once_filled_in(
    tmp_path: Path,
    outputs: Shapes,
    inputs: Shapes | None,
    detector: dict[str, Any],
    classes: int,
) -> None:
    draft = draft_description(signature(outputs, inputs))
    document = draft.document
    assert document["swath:detector"].items() >= detector.items()
    assert len(document["mlm:output"][0]["classification:classes"]) == classes
    path = tmp_path / "ships.json"
    path.write_text(json.dumps(document))
    with pytest.raises(RequestError, match=r"ships.json: \S+: is still to be filled in"):
        load_description(str(path), [tmp_path], None)
    path.write_text(json.dumps(complete(document)))
    description = load_description(str(path), [tmp_path], None)
    assert description.properties.input.input.dim_order == ("batch", "bands", "height", "width")


def test_channels_may_come_last(tmp_path: Path) -> None:
    inputs = {"x": (None, 512, 512, 4)}
    (model_input,) = draft_description(signature({"y": (1, 9)}, inputs)).document["mlm:input"]
    assert model_input["input"]["dim_order"] == ["batch", "height", "width", "bands"]
    assert model_input["input"]["shape"] == [-1, 512, 512, 4]


def test_an_order_that_the_shape_does_not_tell_is_left_to_fill_in() -> None:
    draft = draft_description(signature({"y": (1, 9, 9)}, {"x": (1, None, None, None)}))
    assert "mlm:input[0].input.dim_order" in dict(find_placeholders(draft.document))


def test_names_in_the_metadata_are_used_if_they_are_as_many_as_the_classes() -> None:
    shape = {"output": (1, 6, CELLS)}
    for names, expected in (
        ("{0: 'ship', 1: 'barge'}", ["ship", "barge"]),
        ("['ship']", ["FILL IN: name of class 0", "FILL IN: name of class 1"]),
        ("open('a')", ["FILL IN: name of class 0", "FILL IN: name of class 1"]),
    ):
        document = draft_description(signature(shape, names=names)).document
        listed = document["mlm:output"][0]["classification:classes"]
        assert [one["name"] for one in listed] == expected


def test_a_model_without_an_image_as_input_is_refused() -> None:
    with pytest.raises(RequestError, match=r"none of its inputs \(tokens \[1, 512\]\)"):
        draft_description(signature({"y": (1, 9)}, {"tokens": (1, 512)}))


SIZES = st.lists(st.sampled_from([None, 0, 1, 3, 4, 6, 84, 300, 640, CELLS, 85]), max_size=5)
TENSORS = st.dictionaries(
    st.sampled_from(["images", "output0", "boxes", "labels", "scores", "logits"]),
    st.builds(TensorSpec, st.sampled_from(["float32", "int64", "seq(map)"]), SIZES.map(tuple)),
    max_size=4,
)
TEXTS = st.one_of(
    st.text(max_size=9),
    st.sampled_from(["{0: 'a', 1: 'b'}", "['a']", "32", "[640, 640]", "True", "{'nms': True}"]),
    st.sampled_from(["detect", "{0: float}", "{0: {1: 2}}", "{'a', 'b'}", "1e400", "-1", "b'a'"]),
)
METADATA = st.dictionaries(
    st.sampled_from(["names", "stride", "imgsz", "task", "args", "channels", "end2end"]), TEXTS
)


@examples(2)
@given(inputs=TENSORS, outputs=TENSORS, metadata=METADATA)
def test_whatever_a_file_declares_is_described_or_refused(
    inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec], metadata: dict[str, str]
) -> None:
    model = ModelSignature("ships.onnx", inputs, outputs, metadata)
    with suppress(RequestError):
        json.dumps(draft_description(model).document)
    if is_export(model):
        with suppress(RequestError):
            tile_size_of_export(model)
        with suppress(RequestError):
            description_of("ships.onnx", describe_export(model))


@pytest.mark.skipif(not YOLOX.exists(), reason=f"there is no {YOLOX}")
def test_the_draft_of_yolox_nano_lacks_only_its_names(tmp_path: Path) -> None:
    model = tmp_path / "yolox_nano.onnx"
    model.write_bytes(YOLOX.read_bytes())
    told = run(model)
    assert "By its outputs, this is YOLOX." in told
    assert "mlm:output[0].classification:classes: names of the 80 classes" in told
    assert "swath:detector.channel_order: BGR" in told
    document = json.loads((tmp_path / "yolox_nano.json").read_text())
    for one, name in zip(document["mlm:output"][0]["classification:classes"], COCO, strict=True):
        one["name"] = name
    wanted = yolox_nano()
    wanted["swath:detector"].pop("score_threshold")
    (tmp_path / "yolox_nano.json").write_text(json.dumps(document))
    (tmp_path / "wanted.json").write_text(json.dumps(wanted))
    drafted, described = (
        load_description(str(tmp_path / name), [tmp_path], None).properties
        for name in ("yolox_nano.json", "wanted.json")
    )
    assert drafted.model_copy(update={"name": described.name, "outputs": described.outputs}) == (
        described
    )
    assert drafted.classes == described.classes


@pytest.mark.parametrize(
    ("output", "inputs", "raster", "classes"),
    [
        (("float32", (1, 3, 640, 640)), None, {"values": "logits"}, [0, 1, 2]),
        (("float32", (None, 3, 160, 160)), None, {"values": "logits"}, [0, 1, 2]),
        (("float32", (None, 640, 640, 5)), None, {"values": "logits"}, [0, 1, 2, 3, 4]),
        (("float32", (None, 7, None, None)), (None, 4, None, None), {"values": "logits"}, range(7)),
        (
            ("float16", (1, 1, 640, 640)),
            None,
            {"values": "logits", "activation": "sigmoid"},
            [1],
        ),
        (("int64", (1, 1, 640, 640)), None, {"values": "classes"}, [0]),
        (("int64", (1, 640, 640)), None, {"values": "classes"}, [0]),
    ],
    ids=str,
)
def test_a_segmentation_model_is_recognised_by_its_output(
    output: tuple[str, tuple[int | None, ...]],
    inputs: tuple[int | None, ...] | None,
    raster: dict[str, str],
    classes: Sequence[int],
) -> None:
    images = {"images": TensorSpec("float32", inputs or (1, 3, 640, 640))}
    draft = draft_description(ModelSignature("land.onnx", images, {"map": TensorSpec(*output)}))
    assert draft.runs
    assert draft.document["mlm:tasks"] == ["semantic-segmentation"]
    assert draft.document["swath:raster"].items() >= raster.items()
    listed = draft.document["mlm:output"][0]["classification:classes"]
    assert [one["value"] for one in listed] == list(classes)
    description = description_of("land.json", complete(draft.document))
    assert description.full_tiles is (inputs is None)


def test_a_map_whose_dimensions_are_all_open_has_the_classes_that_are_named() -> None:
    """Torch leaves them open after an interpolation, as in DeepLab of torchvision."""
    images = {"input": TensorSpec("float32", (None, 3, 640, 640))}
    outputs = {"out": TensorSpec("float32", (None, None, None, None))}
    draft = draft_description(ModelSignature("land.onnx", images, outputs), ["water", "forest"])
    properties = description_of("land.json", complete(draft.document)).properties
    assert properties.raster is not None
    assert [one.name for one in properties.classes] == ["water", "forest"]


@pytest.mark.skipif(not CLOUDS.exists(), reason=f"there is no {CLOUDS}")
def test_a_real_segmentation_model_is_described(tmp_path: Path) -> None:
    out = tmp_path / "clouds.json"
    told = run(CLOUDS, str(out))
    assert "a segmentation model (a class for each pixel)" in told
    assert "names of the 3 classes" in told
    document = json.loads(out.read_text())
    assert document["mlm:input"][0]["input"]["shape"] == [-1, 4, 256, 256]
    assert document["swath:raster"]["values"] == "logits"
    with pytest.raises(RequestError, match=r"value_scaling: is still to be filled in"):
        load_description(str(out), [tmp_path], None)


def test_a_classifier_is_described(tmp_path: Path) -> None:
    model = answering(tmp_path / "scene.onnx", {"label": np.zeros((1, 10), np.float32)})
    told = run(model)
    assert "a classifier (a class for the whole image)" in told
    assert "names of the 10 classes" in told
    assert "swath:tile.values: logits; probabilities if the model ends with a softmax" in told
    document = json.loads(model.with_suffix(".json").read_text())
    assert document["mlm:tasks"] == ["classification"]
    assert document["swath:tile"] == {"values": "logits"}


def test_a_model_of_embeddings_is_described(tmp_path: Path) -> None:
    numbers = np.zeros((1, 512), np.float32)
    model = answering(tmp_path / "vectors.onnx", {"image_embeddings": numbers})
    assert "a model of embeddings" in run(model)
    document = json.loads(model.with_suffix(".json").read_text())
    assert document["mlm:tasks"] == ["similarity-search"]
    tile = description_of("vectors.json", complete(document)).properties.tile
    assert tile is not None
    assert (tile.is_embedding, tile.size) == (True, 512)


class TestCommand:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        outputs = {"boxes": np.zeros((1, 4)), "labels": np.zeros(1, np.int64)}
        return answering(tmp_path / "ships.onnx", outputs | {"scores": np.zeros(1)})

    @pytest.fixture
    def export(self, tmp_path: Path) -> Path:
        output = {"output0": np.zeros((1, 6, 84), np.float32)}
        return answering(tmp_path / "best.onnx", output, metadata=of_ultralytics())

    def test_a_file_is_not_overwritten_without_force(self, model: Path) -> None:
        path = model.with_suffix(".json")
        path.write_text("mine")
        with pytest.raises(SwathError, match=r"ships.json: exists; give --force"):
            run(model)
        assert path.read_text() == "mine"
        run(model, force=True)
        assert json.loads(path.read_text())["mlm:name"] == "ships"

    def test_the_description_may_go_to_standard_output(
        self, model: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(model, "-")
        assert json.loads(capsys.readouterr().out)["swath:detector"] == {"type": "torchvision"}
        assert not model.with_suffix(".json").exists()

    def test_a_folder_that_does_not_exist_is_named(self, model: Path) -> None:
        with pytest.raises(SwathError, match=r"--out: \S+none/a.json cannot be written"):
            run(model, str(model.parent / "none" / "a.json"))

    def test_an_export_of_ultralytics_needs_no_description(self, export: Path) -> None:
        told = run(export)
        assert "with 2 classes" in told
        assert "No description is needed" in told
        assert not export.with_suffix(".json").exists()

    def test_one_is_written_for_it_where_it_is_asked_for(self, export: Path) -> None:
        out = export.with_suffix(".json")
        run(export, str(out))
        description = load_description(str(out), [export.parent], None)
        assert [one.name for one in description.properties.classes] == ["ship", "barge"]

    def test_metadata_that_are_refused_are_named_and_the_shapes_described(
        self, tmp_path: Path
    ) -> None:
        output = {"output0": np.zeros((1, 6, 84), np.float32)}
        metadata = of_ultralytics(names="open('a')")
        model = answering(tmp_path / "best.onnx", output, metadata=metadata)
        told = run(model)
        assert "is not a literal" in told
        assert "this is YOLOv8 or later" in told

    def test_no_description_is_drafted_for_a_task_that_swath_does_not_run(
        self, tmp_path: Path
    ) -> None:
        output = {"output0": np.zeros((1, 7, 84), np.float32)}
        metadata = of_ultralytics(task="pose")
        model = answering(tmp_path / "best.onnx", output, metadata=metadata)
        with pytest.raises(RequestError, match="keypoints"):
            run(model)
        assert not model.with_suffix(".json").exists()

    @pytest.mark.parametrize(
        ("task", "answers"),
        [("semantic", "a class for each pixel"), ("depth", "a distance for each pixel")],
    )
    def test_an_export_that_answers_with_pixels_is_drafted(
        self, tmp_path: Path, task: str, answers: str
    ) -> None:
        output = {"output0": np.zeros((1, 2, 64, 64), np.float32)}
        metadata = of_ultralytics(task=task)
        model = answering(tmp_path / "best.onnx", output, metadata=metadata)
        assert answers in run(model)
        document = complete(json.loads(model.with_suffix(".json").read_text()))
        classes = description_of("best.json", document).properties.classes
        assert [one.name for one in classes] == ["ship", "barge"]

    def test_control_characters_of_a_file_do_not_reach_the_terminal(self, tmp_path: Path) -> None:
        output = {"output0": np.zeros((1, 6, 84), np.float32)}
        metadata = of_ultralytics(description="\x1b[2J" + "x" * 5000) | {"\x1b]0;a\x07": "b"}
        told = run(answering(tmp_path / "best.onnx", output, metadata=metadata))
        assert "\x1b" not in told
        assert max(map(len, told.splitlines())) < 500

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("best.pt", "yolo export model=best.pt"), ("none.onnx", "there is no such file")],
    )
    def test_what_is_no_onnx_file_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(RequestError, match=reason):
            run(Path(name))


def test_the_list_has_every_built_in_model(capsys: pytest.CaptureFixture[str]) -> None:
    list_models()
    listed = capsys.readouterr().out
    assert all(f"\n  {name} " in listed for name in MODELS)
    assert "swath models describe" in listed


@pytest.fixture
def ships(tmp_path: Path) -> Path:
    """A detector of two classes, as YOLOv8 answers."""
    return answering(tmp_path / "ships.onnx", {"output": np.zeros((1, 6, 84), np.float32)})


def test_class_names_of_a_file_are_filled_in(ships: Path) -> None:
    names = ships.with_name("ships.names")
    names.write_text("ship\nbarge, towed\n\n")
    console = Console(record=True, width=200, stderr=True)
    assert describe(str(ships), None, console, force=False, class_names=names) == 0
    assert "Nothing is left to fill in" in console.export_text()
    (output,) = json.loads(ships.with_suffix(".json").read_text())["mlm:output"]
    assert [each["name"] for each in output["classification:classes"]] == ["ship", "barge, towed"]


@pytest.mark.parametrize("text", ["ship\n", " \n", "\udcff", None])
def test_class_names_that_do_not_fit_are_refused(ships: Path, text: str | None) -> None:
    names = ships.with_name("ships.names")
    if text is not None:
        names.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SwathError, match=r"class.names"):
        describe(str(ships), None, Console(quiet=True), force=False, class_names=names)
    assert not ships.with_suffix(".json").exists()


def test_the_classes_of_an_export_are_those_of_its_metadata(tmp_path: Path) -> None:
    output = {"output0": np.zeros((1, 6, 84), np.float32)}
    model = answering(tmp_path / "best.onnx", output, metadata=of_ultralytics())
    names = tmp_path / "names.txt"
    names.write_text("tug\nferry\n")
    with pytest.raises(SwathError, match="metadata"):
        describe(str(model), None, Console(quiet=True), force=False, class_names=names)
