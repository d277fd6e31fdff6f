"""The words of the command line become a request; errors name the option."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import pytest

from deployments.run.merging import MergingOptions
from deployments.run.model import ModelOptions
from deployments.run.option_names import in_options
from deployments.run.options import RunOptions, TilingOptions
from deployments.run.preview import check_preview
from deployments.run.raster import RasterOptions
from tasks.errors import RequestError
from tasks.request import Algorithm, AlgorithmType, FeatureFormat, FileOutput, Request


@pytest.fixture
def image(tmp_path: Path) -> str:
    (tmp_path / "scene.tif").touch()
    return str(tmp_path / "scene.tif")


def algorithm(image: str, **options: Any) -> Algorithm:
    return request(image, merging=MergingOptions(**options)).algorithm


def request(image: str, **options: Any) -> Request:
    named = {name: options.pop(name) for name in ("type", "parameters") if name in options}
    model = ModelOptions(options.pop("model", "centerpoint"), **named)
    chosen: dict[str, Any] = {"out": Path("/results")} | options
    return RunOptions(images=(image,), model=model, **chosen).request()


def test_without_options_the_message_has_its_defaults(image: str) -> None:
    found = request(image, job_id="j")
    assert found.model_dump(exclude_defaults=True) == {
        "jobId": "j",
        "imageUrls": (image,),
        "outputs": ({"type": "File", "path": "/results"},),
        "imageProcessor": {"name": "centerpoint", "type": "BUILTIN"},
    }


def test_formats_are_those_of_the_output(image: str) -> None:
    (output,) = request(image, formats=("parquet, geojson", "parquet")).outputs
    assert output == FileOutput(type="File", path="/results", formats=("geojson", "parquet"))
    with pytest.raises(
        RequestError, match=r"^--formats: 'shp' is not one of 'geojson', .* or 'all'"
    ):
        request(image, formats=("shp",))
    with pytest.raises(RequestError, match=r"^--formats: names no format; give geojson,parquet"):
        request(image, formats=(",",))


def test_all_formats_are_one_word(image: str) -> None:
    (output,) = request(image, formats=("all",)).outputs
    assert isinstance(output, FileOutput)
    assert output.formats == tuple(FeatureFormat)


def test_filter_and_merge_are_fields_of_the_algorithm(image: str) -> None:
    found = algorithm(
        image,
        conf=("0.25", "ship=0.4, barge=0"),
        classes=("ship,barge", "crane"),
        merge="WBF",
        iou=0,
        class_agnostic=True,
    )
    assert found == Algorithm(
        algorithmType=AlgorithmType.WBF,
        iouThreshold=0,
        skipBoxThreshold=0.25,
        classes=("barge", "crane", "ship"),
        classThresholds={"ship": 0.4, "barge": 0},
        classAgnostic=True,
    )


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ((" ship , fishing boat ",), ("fishing boat", "ship")),
        (('"ship, cargo",barge', "ship"), ("barge", "ship", "ship, cargo")),
        (("ship,,",), ("ship",)),
        (("bâteau",), ("bâteau",)),
    ],
)
def test_classes_may_have_spaces_and_commas(
    image: str, classes: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert algorithm(image, classes=classes).classes == expected


def test_a_class_of_a_threshold_may_have_any_character(image: str) -> None:
    found = algorithm(image, conf=('fishing boat=0.5,"ship, a=b=0.25"',))
    assert found.class_thresholds == {"fishing boat": 0.5, "ship, a=b": 0.25}


def test_every_algorithm_of_the_message_is_a_choice() -> None:
    hint = get_type_hints(MergingOptions)["merge"]
    choices = next(part for part in get_args(hint) if getattr(part, "__origin__", None) is Literal)
    assert [*get_args(choices)] == [*AlgorithmType]


MERGING: list[tuple[dict[str, Any], str]] = [
    ({"conf": ("-0.1",)}, "--conf: -0.1 is below 0; give at least 0"),
    ({"conf": ("25",)}, "--conf: 25.0 is above 1; give at most 1"),
    ({"conf": ("nan",)}, "--conf: 'nan' is neither a score nor CLASS=SCORE"),
    ({"conf": ("high",)}, "--conf: 'high' is neither a score nor CLASS=SCORE; give 0.25 or"),
    ({"conf": ("ship=",)}, "--conf: 'ship=' is neither a score nor CLASS=SCORE"),
    ({"conf": ("=0.4",)}, "--conf: '=0.4' names no class, or one that has a score already"),
    ({"conf": ("a=0.4", "a=0.5")}, "--conf: 'a=0.5' names no class, or one that has a score"),
    ({"conf": ("0.4", "0.5")}, "--conf: 0.4 and 0.5 are both for all classes; give one of them"),
    ({"conf": ("ship=4",)}, "--conf ship: 4.0 is above 1; give at most 1"),
    (
        {"conf": ("ship=0.4",), "classes": ("barge",)},
        "--conf: names 'ship', which is not in --classes; add it there, or remove it here",
    ),
    ({"classes": ("a\tb\x01",)}, "--classes: 'a\\tb\\x01' holds the control character U+0009"),
    ({"conf": (" , ",)}, "--conf: has no score; give 0.25 or ship=0.4, or leave it out"),
    ({"classes": (" , ",)}, "--classes: names no class; give ship,barge, or leave it out"),
    ({"iou": 2.0}, "--iou: 2.0 is above 1; give at most 1"),
    ({"iou": float("nan")}, "--iou: nan is not a finite number; give 0 to 1"),
    ({"iou": -1.0}, "--iou: -1.0 is below 0; give at least 0"),
    ({"merge": "MAGIC"}, "--merge: 'MAGIC' is not one of 'NMS', "),
    ({"measure": "GIOU"}, "--measure: 'GIOU' is not one of 'IOU' or 'IOS'"),
    (
        {"measure": "IOS", "merge": "WBF"},
        "--measure: 'IOS' is for NMS, NMM and DISSOLVE, and --merge is WBF; leave it out",
    ),
]
TILING: list[tuple[dict[str, Any], str]] = [
    ({"tile_size": 8}, "--tile-size: 8 is below 16; give at least 16"),
    ({"overlap": -1}, "--overlap: -1 is below 0; give at least 0"),
    ({"tile_size": 64, "overlap": 64}, "--overlap: 64 is not below --tile-size 64; give 0 to 63"),
    ({"tile_format": "BMP"}, "--tile-format: 'BMP' is not one of 'NITF', "),
    ({"tile_compression": "ZIP"}, "--tile-compression: 'ZIP' is not one of "),
    ({"tile_format": "PNG", "tile_compression": "LZW"}, "--tile-compression: 'LZW' "),
    ({"roi": "POLYGON((0 0, 1 0"}, "--roi: 'POLYGON((0 0, 1 0' is not well-formed WKT"),
    ({"roi": "POLYGON((0 0, 1 1, 1 0, 0 1, 0 0))"}, "--roi: 'POLYGON((0 0, 1 1, 1 0, 0 1, 0 0))' "),
    ({"alpha": "band"}, "--alpha: 'band' is not one of 'mask' or 'ignore'"),
    ({"nodata": float("nan")}, "--nodata: nan is not a finite number; "),
    ({"bands": (",",)}, "--bands: names no band; give 4,3,2, or leave it out"),
    ({"bands": ("0",)}, "--bands: '0' is not a band; give its number, from 1, or its name"),
    ({"scale": "log:1,2"}, "--scale: 'log:1,2' is no scaling; give percentile:2,98, linear:0,300"),
    ({"scale": "linear:1"}, "--scale: 'linear:1' is no scaling; give percentile:2,98"),
    ({"scale": "linear:0,9:int8"}, "--scale dataType: 'int8' is not one of 'uint8' or 'float3"),
    ({"scale": "linear:9,1"}, "--scale minimum: is not below maximum; give a lower one"),
    ({"scale": "{type}"}, "--scale: '{type}' is no JSON object"),
    ({"resolution": 0.0}, "--resolution: 0.0 is not above 0; give more"),
    ({"resolution": float("inf")}, "--resolution: inf is not a finite number; give metres"),
    ({"fill": float("nan")}, "--fill: nan is not a finite number; give one, such as 0"),
    ({"read_role": "me"}, "--read-role: 'me' is not the ARN of an IAM role; give one like"),
    ({"region_size": 0}, "--region-size: 0 is not 1 or more; give rows of pixels"),
]
RASTER: list[tuple[dict[str, Any], str]] = [
    ({"raster": "logit"}, "--raster: 'logit' is not one of 'classes', 'probabilities', 'logits' "),
    ({"raster": "{values}"}, "--raster: '{values}' is no JSON object ("),
    ({"raster": '{"value": 1}'}, "--raster.value: unknown field; did you mean values?"),
    ({"raster": "logits"}, "--class-names: is missing, and logits need one for each band"),
    ({"class_names": ("a",)}, "--class-names: names the classes of a raster; give --raster too"),
    ({"raster": "classes", "class_names": ("0=a,b",)}, "--class-names: 'b' has no number, and "),
    ({"raster": "classes", "class_names": ("0=a,0=b",)}, "--class-names: has the same value twice"),
    ({"raster": "logits", "class_names": ("a,b,a",)}, "--class-names: has the same name twice"),
    ({"raster": "classes", "class_names": ("0=",)}, "--class-names: '' is empty"),
    ({"raster": "classes", "class_names": ('"a',)}, "--class-names: '\"a' is no list of words"),
    ({"raster": "classes", "blend": "smooth"}, "--blend: is smooth, which does not go with class"),
    ({"raster": "classes", "augment": "flips"}, "--augment: numbers of classes have no average"),
    ({"raster": "values", "scores": "uint8"}, "--scores: needs classes, probabilities or "),
    ({"raster": "values", "polygons": True}, "--polygons: needs classes, probabilities or logits"),
    ({"raster": "values", "class_names": ("a",)}, "--class-names: needs classes, probabilities"),
    ({"raster": "classes", "scores": "uint8"}, "--scores: needs probabilities or logits"),
    ({"raster": "classes", "min_area": 4.0}, "--min-area: 4 is of polygons; give --polygons too"),
    (
        {"raster": "classes", "polygons": True, "min_area": -1.0},
        "--min-area: -1.0 is below 0; give at least 0",
    ),
    (
        {"raster": "classes", "polygons": True, "min_area": float("inf")},
        "--min-area: inf is not a finite number; give pixels",
    ),
]
OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"model": ""}, "--model: '' is empty; give at least 1 character"),
    ({"type": "MAGIC"}, "--type: 'MAGIC' is not one of "),
    ({"type": "HTTP_ENDPOINT"}, "--model: 'centerpoint' "),
    ({"model": "https://h/a.onnx?b=1"}, "--model: 'https://h/a.onnx?b=1' is a file on the web"),
    ({"model": "https://h/best.pt"}, "--model: 'https://h/best.pt' is not an ONNX file, and "),
    ({"parameters": ("count",)}, "--parameter: 'count' is not NAME=VALUE"),
    ({"parameters": ("a b=3",)}, "--parameter "),
    ({"tile_output": "logit"}, "--tile-output: 'logit' is not one of 'probabilities', "),
    ({"tile_output": "embedding"}, "--tile-output.size: is missing; give the number of numbers"),
    ({"tile_output": "embedding:many"}, "--tile-output.size: 'many' is not a whole number"),
    ({"tile_output": "{3}"}, "--tile-output: '{3}' is no JSON object"),
    ({"max_tiles": 0}, "--max-tiles: 0 is below 1; give at least 1"),
    ({"max_cost": 0.0}, "--max-cost: 0.0 is not above 0; give more"),
    ({"job_id": "a/b"}, "--job-id: 'a/b' cannot be a part of a path; give a name without slashes"),
    ({"out": Path("/a\nb")}, "--out: '/a\\nb' holds the control character"),
]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        *(({"merging": MergingOptions(**options)}, reason) for options, reason in MERGING),
        *(({"tiling": TilingOptions(**options)}, reason) for options, reason in TILING),
        *(({"raster": RasterOptions(**options)}, reason) for options, reason in RASTER),
        *OTHERS,
    ],
)
def test_an_invalid_option_is_named(image: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        request(image, **options)
    assert str(caught.value).startswith(reason)


def raster_output(image: str, **options: Any) -> dict[str, Any] | None:
    output = request(image, raster=RasterOptions(**options)).raster_output
    return None if output is None else output.model_dump(mode="json", exclude_defaults=True)


def test_the_options_of_a_raster_are_fields_of_the_raster_output(image: str) -> None:
    assert raster_output(image) is None
    assert raster_output(
        image, raster="logits", class_names=("clear, cloud",), blend="max", augment="flips",
        scores="uint8", polygons=True, min_area=16,
    ) == {
        "values": "logits",
        "classes": [{"value": 0, "name": "clear"}, {"value": 1, "name": "cloud"}],
        "blend": "max",
        "augmentation": "flips",
        "scores": "uint8",
        "polygons": {"minimumArea": 16},
    }  # fmt: skip
    assert raster_output(image, raster="classes", class_names=("3=water,7=forest",)) == {
        "values": "classes",
        "classes": [{"value": 3, "name": "water"}, {"value": 7, "name": "forest"}],
    }
    right_angles = '{"values": "classes", "polygons": {"rightAngles": true}}'
    assert raster_output(
        image, raster=right_angles, class_names=("a",), polygons=True, min_area=9
    ) == {
        "values": "classes",
        "classes": [{"value": 0, "name": "a"}],
        "polygons": {"rightAngles": True, "minimumArea": 9},
    }
    sigmoid = '{"values": "logits", "activation": "sigmoid"}'
    assert raster_output(image, raster=sigmoid, class_names=("road",)) == {
        "values": "logits",
        "activation": "sigmoid",
        "classes": [{"value": 1, "name": "road"}],
    }


def test_classes_are_those_to_outline_if_polygons_are_wanted(image: str) -> None:
    merging, raster = MergingOptions(classes=("cloud",)), RasterOptions(polygons=True)
    output = request(image, merging=merging, raster=raster).raster_output
    assert output is not None
    assert output.polygons is not None
    assert output.polygons.classes == ("cloud",)


def test_outlines_of_no_class_are_refused(image: str) -> None:
    raster = RasterOptions(raster="classes", class_names=("a,b",), polygons=True)
    with pytest.raises(RequestError, match="--classes: names no class"):
        request(image, merging=MergingOptions(classes=("",)), raster=raster)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"iou": 0.5}, "--iou: is for features, and the model answers with pixels; leave it out"),
        ({"merge": "NMS"}, "--merge: is for features"),
        ({"measure": "IOS"}, "--measure: is for features"),
        ({"conf": ("0.5",)}, "--conf: is for features"),
        ({"class_agnostic": True}, "--class-agnostic: is for features"),
        ({"classes": ("a",)}, "--classes: keeps features of some classes, and the model answers"),
    ],
)
def test_options_for_features_do_not_go_with_a_raster(
    image: str, options: dict[str, Any], named: str
) -> None:
    merging, raster = MergingOptions(**options), RasterOptions(raster="classes")
    with pytest.raises(RequestError) as caught:
        request(image, merging=merging, raster=raster)
    assert str(caught.value).startswith(named)


def test_a_model_answers_with_pixels_or_about_whole_tiles(image: str) -> None:
    with pytest.raises(RequestError) as caught:
        request(image, tile_output="logits", raster=RasterOptions(raster="classes"))
    assert "--tile-output: is for a model that answers about whole tiles, and --raster for one" in (
        str(caught.value)
    )


def test_every_option_has_an_invalid_value_above() -> None:
    tried = {name for options, _ in [*MERGING, *TILING, *RASTER, *OTHERS] for name in options}
    options = {
        *RunOptions.__dataclass_fields__,
        *TilingOptions.__dataclass_fields__,
        *RasterOptions.__dataclass_fields__,
        *MergingOptions.__dataclass_fields__,
    }
    # the images, the formats and the preview are tested by themselves, and a flag has no value
    flags = {"class_agnostic", "fresh"}  # and --polygons, above
    assert options - tried == {"images", "tiling", "merging", "formats", "preview"} | flags


@pytest.mark.parametrize("option", ["classes", "conf"])
@pytest.mark.parametrize("word", ['"ship', "sh\nip", "x" * 200_000])
def test_a_quote_that_is_not_closed_does_not_reach_into_the_next_option(
    image: str, option: str, word: str
) -> None:
    with pytest.raises(RequestError, match=f"--{option}: .* is no list of words"):
        algorithm(image, **{option: (word, "barge")})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.html", "--preview: 'a.html' does not end in .png, .jpg, .jpeg; give preview.png"),
        ("scene.tif/a.png", "--preview: the folder of scene.tif/a.png cannot be made ("),
    ],
)
def test_a_preview_that_cannot_be_written_is_refused_at_once(
    image: str, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    monkeypatch.chdir(Path(image).parent)
    with pytest.raises(RequestError) as caught:
        check_preview(Path(name), request(image))
    assert str(caught.value).startswith(reason)


def test_results_never_overwrite_the_region_of_interest(tmp_path: Path, image: str) -> None:
    roi = tmp_path / "scene.tif.geojson"
    roi.write_text('{"type": "Polygon", "coordinates": [[[4, 51], [5, 51], [5, 52], [4, 51]]]}')
    tiling = TilingOptions(roi=str(roi))
    assert request(image, tiling=tiling, out=tmp_path / "out").region_of_interest
    with pytest.raises(RequestError, match=r"--roi: .*geojson would be overwritten by the results"):
        request(image, tiling=tiling, out=tmp_path)


@pytest.mark.parametrize("name", ["scene.png", "link.png", "../images/scene.png"])
def test_a_preview_never_overwrites_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "scene.png").touch()
    (folder / "link.png").symlink_to("scene.png")
    monkeypatch.chdir(folder)
    check_preview(Path("other.png"), request("scene.png"))
    with pytest.raises(RequestError, match=r"--preview: .* is an image of this run"):
        check_preview(Path(name), request("link.png"))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "There is no built-in model 'x': imageProcessor.name must be one of a, b.",
            "There is no built-in model 'x': --model must be one of a, b.",
        ),
        (
            "imageProcessorParameters.description: is missing; give s3://bucket/model.json",
            "--parameter description: is missing; give s3://bucket/model.json",
        ),
        (
            "imageUrls[2]: 's3://b' does not name an object",
            "IMAGES: 's3://b' does not name an object",
        ),
        (
            "postProcessing[0].algorithm.classes[1]: 'a' is not a class\nregionOfInterest: no",
            "--classes: 'a' is not a class\n--roi: no",
        ),
        (
            "s3://bucket/a.jobId/jobId/imageUrls.tif is unreadable",
            "s3://bucket/a.jobId/jobId/imageUrls.tif is unreadable",
        ),
    ],
)
def test_an_error_of_a_run_names_options_too(message: str, expected: str) -> None:
    assert in_options(message) == expected
