"""The request message: valid and invalid messages, their identity, and the JSON Schema."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate
from pydantic import TypeAdapter, ValidationError

from tasks.errors import RequestError
from tasks.request import (
    Algorithm,
    AlgorithmType,
    EndpointType,
    FileOutput,
    KinesisOutput,
    Request,
    S3Output,
    TileCompression,
    TileFormat,
    describe_errors,
    request_schema,
)

SAMPLE = Path(__file__).parents[2].parent / "shared" / "osml" / "request.json"
ROLE = "arn:aws:iam::123456789012:role/Reader"
MESSAGE: dict[str, Any] = {
    "jobId": "job-1",
    "imageUrls": ["s3://images/harbour.tif"],
    "outputs": [{"type": "S3", "bucket": "results", "prefix": "harbour/"}],
    "imageProcessor": {"name": "ships"},
}
DEFAULTS: dict[str, Any] = {
    "jobName": None,
    "imageProcessorParameters": {},
    "imageProcessorTileSize": 1024,
    "imageProcessorTileOverlap": 50,
    "imageProcessorTileFormat": "NITF",
    "imageProcessorTileCompression": "NONE",
    "imageReadRole": None,
    "regionOfInterest": None,
    "featureProperties": [],
    "postProcessing": [
        {
            "step": "FEATURE_DISTILLATION",
            "algorithm": {
                "algorithmType": "NMS",
                "iouThreshold": 0.75,
                "measure": "IOU",
                "skipBoxThreshold": 0.0,
                "classes": [],
                "classThresholds": {},
                "method": "GAUSSIAN",
                "classAgnostic": False,
                "edgeRule": True,
                "sigma": 0.1,
            },
        }
    ],
}
SQUARE = "POLYGON ((4 51, 5 51, 5 52, 4 52, 4 51))"


def parse(**fields: Any) -> Request:
    return Request.parse(json.dumps(MESSAGE | fields))


def refusal(**fields: Any) -> str:
    with pytest.raises(RequestError) as caught:
        parse(**fields)
    return str(caught.value)


# --- strategies -----------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
finite = st.floats(allow_nan=False, allow_infinity=False)
plain = st.text("abcXYZ019-_", min_size=1, max_size=12)
properties = st.dictionaries(
    plain, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | plain, max_size=3
)
pairs = st.sampled_from(
    [("NITF", "NONE"), ("NITF", "J2K"), ("GTIFF", "ZSTD"), ("PNG", "NONE"), ("JPEG", "JPEG")]
)
outputs = st.one_of(
    st.builds(lambda p: {"type": "S3", "bucket": "results", "prefix": p}, plain),
    st.builds(lambda n: {"type": "Kinesis", "stream": "s", "batchSize": n}, st.integers(1, 500)),
    st.builds(lambda p: {"type": "File", "path": f"/{p}", "formats": ["parquet"]}, plain),
)
algorithms = st.fixed_dictionaries(
    {"algorithmType": st.sampled_from([kind.value for kind in AlgorithmType])},
    optional={
        "iouThreshold": st.floats(0, 1),
        "skipBoxThreshold": st.floats(0, 1),
        "classes": st.just(["barge", "ship"]),
        "classThresholds": st.dictionaries(
            st.sampled_from(["ship", "barge"]), st.floats(0, 1), min_size=1
        ),
    },
)
urls = st.builds("s3://images/{}/{}".format, plain, plain) | st.builds("/data/{}".format, plain)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    size = draw(st.integers(16, 16_384))
    tile_format, compression = draw(pairs)
    required = {
        "jobId": draw(plain),
        "imageUrls": draw(st.lists(urls, min_size=1, max_size=4, unique=True)),
        "outputs": draw(st.lists(outputs, min_size=1, max_size=3)),
        "imageProcessor": {"name": "centerpoint", "type": "BUILTIN"},
        "imageProcessorTileSize": size,
        "imageProcessorTileOverlap": draw(st.integers(0, size - 1)),
        "imageProcessorTileFormat": tile_format,
        "imageProcessorTileCompression": compression,
    }
    optional = {
        "jobName": draw(plain),
        "imageProcessorParameters": draw(st.dictionaries(plain, plain | finite, max_size=2)),
        "imageReadRole": ROLE,
        "imageBands": draw(st.lists(st.integers(1, 9) | st.just("red"), min_size=1, max_size=3)),
        "imageScaling": {
            "type": "linear",
            "minimum": draw(st.floats(-1e9, 1e9)),
            "maximum": [1e10],
        },
        "imageFill": draw(finite),
        "priority": draw(st.integers(-100, 100)),
        "tags": {"owner": "maritime", "cost/centre": "47 11"},
        "regionOfInterest": SQUARE,
        "featureProperties": draw(st.lists(properties, max_size=2)),
        "postProcessing": [{"step": "FEATURE_DISTILLATION", "algorithm": draw(algorithms)}],
    }
    chosen = draw(st.sets(st.sampled_from(sorted(optional))))
    return required | {name: optional[name] for name in chosen}


# --- valid messages -------------------------------------------------------------------------------


@pytest.mark.skipif(not SAMPLE.exists(), reason="shared/osml is not on this machine")
def test_the_osml_sample_is_parsed_and_dumped_unchanged() -> None:
    text = SAMPLE.read_text()
    request = Request.parse(text)
    assert request.model_dump(mode="json", exclude_unset=True) == json.loads(text)
    assert request.image_processor.type is EndpointType.HTTP_ENDPOINT
    assert (request.tile_size, request.tile_overlap) == (512, 64)
    assert request.tile_format is TileFormat.GTIFF
    assert request.algorithm.iou_threshold == 0.5


def test_defaults_are_those_of_osml() -> None:
    request = parse()
    dumped = request.model_dump(mode="json")
    assert {name: dumped[name] for name in DEFAULTS} == DEFAULTS
    assert request.image_processor.type is EndpointType.SM_ENDPOINT
    assert request.algorithm == Algorithm()


@pytest.mark.parametrize("nothing", [None, "", [], {}])
def test_null_and_empty_mean_absent(nothing: object) -> None:
    request = parse(**dict.fromkeys(DEFAULTS, nothing))
    assert request == parse()
    processor = {"name": "ships", "type": nothing, "assumedRole": nothing}
    assert parse(imageProcessor=processor) == parse()


@pytest.mark.parametrize("size", ["512", " 512 ", 512.0])
def test_integers_are_parsed_as_in_osml(size: object) -> None:
    assert parse(imageProcessorTileSize=size) == parse(imageProcessorTileSize=512)


def test_outputs_are_parsed_by_their_type() -> None:
    kinesis = {"type": "Kinesis", "stream": "features", "batchSize": "1000"}
    request = parse(outputs=[*MESSAGE["outputs"], kinesis])
    assert isinstance(request.outputs[0], S3Output)
    assert isinstance(request.outputs[1], KinesisOutput)
    assert request.outputs[1].batch_size == 1000


def test_formats_of_an_output_are_a_set_and_both_unless_given() -> None:
    def of(**fields: object) -> Request:
        return parse(outputs=[{"type": "File", "path": "/out"} | fields])

    one, both = of(formats=["parquet", "parquet"]), of(formats=["parquet", "geojson"])
    assert both == of() == of(formats=[]) == of(formats=None)
    assert both.identity("x") == of().identity("x") != one.identity("x")
    (output,) = one.outputs
    assert isinstance(output, FileOutput)
    assert output.formats == ("parquet",)


def test_the_legacy_fields_become_an_s3_output() -> None:
    pair = {"outputBucket": "results", "outputPrefix": "harbour/"}
    assert parse(outputs=None, **pair).outputs == parse().outputs
    assert parse(outputBucket="other", outputPrefix="x").outputs == parse().outputs


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("SM_ENDPOINT", "ships-v2"),
        ("HTTP_ENDPOINT", "http://127.0.0.1:8090/invocations"),
        ("OIP_ENDPOINT", "https://models.example/v2/models/ships"),
        ("ONNX", "s3://models/ships.onnx"),
        ("ONNX", "/models/ships.onnx"),
        ("BUILTIN", "bright-targets"),
    ],
)
def test_names_of_every_endpoint_type_are_accepted(kind: str, name: str) -> None:
    processor = parse(imageProcessor={"name": name, "type": kind}).image_processor
    assert (processor.type, processor.name) == (kind, name)


@pytest.mark.parametrize(
    "wkt",
    [
        SQUARE,
        "polygon Z ((0 0 1, 1 0 1, 1 1 1, 0 0 1))",
        "MULTIPOLYGON (((0 0, 9 0, 9 9, 0 0), (5 1, 6 1, 6 2, 5 1)), ((-180 -90, -170 -90, -175 -80, -180 -90)))",  # noqa: E501
    ],
)
def test_polygons_and_multipolygons_are_accepted(wkt: str) -> None:
    assert parse(regionOfInterest=wkt).region_of_interest == wkt


def test_the_default_iou_threshold_depends_on_the_algorithm() -> None:
    def limit(**algorithm: Any) -> float:
        step = {"step": "FEATURE_DISTILLATION", "algorithm": algorithm}
        return parse(postProcessing=[step]).algorithm.iou_threshold

    assert limit(algorithmType="WBF") == 0.75
    assert limit(algorithmType="DISSOLVE") == 0.2
    assert limit(algorithmType="DISSOLVE", iouThreshold=0.5) == 0.5


def test_the_default_score_threshold_depends_on_the_algorithm() -> None:
    def least(**algorithm: Any) -> float:
        step = {"step": "FEATURE_DISTILLATION", "algorithm": algorithm}
        return parse(postProcessing=[step]).algorithm.skip_box_threshold

    assert least(algorithmType="SOFT_NMS") == 0.0001
    assert least(algorithmType="NMS") == 0.0
    assert least(algorithmType="NMS", skipBoxThreshold=0.1) == 0.1


def test_the_order_of_the_classes_does_not_change_the_work() -> None:
    def work(*classes: str) -> Request:
        return parse(postProcessing=[{"algorithm": {"classes": list(classes)}}])

    url = MESSAGE["imageUrls"][0]
    assert work("ship", "barge", "ship").algorithm.classes == ("barge", "ship")
    assert work("ship", "barge").identity(url) == work("barge", "ship").identity(url)
    assert work("ship").identity(url) != parse().identity(url)


@pytest.mark.parametrize("tile_format", TileFormat)
@pytest.mark.parametrize("compression", TileCompression)
def test_only_valid_pairs_of_format_and_compression_are_accepted(
    tile_format: TileFormat, compression: TileCompression
) -> None:
    possible = {
        "NITF": {"NONE", "JPEG", "J2K"},
        "GTIFF": {"NONE", "LZW", "ZSTD", "JPEG"},
        "PNG": {"NONE"},
        "JPEG": {"NONE", "JPEG"},
        "NPY": {"NONE"},
    }
    fields = {"imageProcessorTileFormat": tile_format, "imageProcessorTileCompression": compression}
    if compression in possible[tile_format]:
        assert parse(**fields).tile_compression is compression
    else:
        reason = refusal(**fields)
        assert reason.startswith(
            f"imageProcessorTileCompression: '{compression}' is not a compress"
        )
        assert str(tile_format) in reason


# --- invalid messages -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"regionOfIntrest": SQUARE}, "regionOfIntrest: unknown field; did you mean regionOfInt"),
        ({"tileSize": 512}, "tileSize: unknown field; did you mean imageProcessorTileSize?"),
        ({"outputBuket": "b"}, "outputBuket: unknown field; did you mean outputBucket?"),
        ({"colour": 1}, "colour: unknown field; remove it, or give one of jobId, jobName"),
        ({"tile_size": 512}, "tile_size: unknown field"),
        ({"jobId": 5}, "jobId: 5 is not text; give a string in quotes, for example"),
        ({"jobId": ""}, "jobId: '' is empty"),
        ({"jobId": "a/b"}, "jobId: 'a/b' cannot be a part of a path"),
        ({"jobId": ".."}, "jobId: '..' cannot be a part of a path"),
        ({"jobId": "a\nb"}, r"jobId: 'a\nb' holds the control character U+000A at position 1"),
        ({"jobId": "x" * 201}, "is longer than 200 characters; shorten it"),
        ({"jobName": " x"}, "jobName: ' x' begins or ends with a space"),
        ({"imageUrls": []}, "imageUrls: a list is empty; give at least 1"),
        ({"imageUrls": "s3://a/b"}, "imageUrls: 's3://a/b' is not a list"),
        ({"imageUrls": ["/a.tif", "/a.tif"]}, "imageUrls: a list holds '/a.tif' twice"),
        ({"imageUrls": ["a.tif"]}, "imageUrls[0]: 'a.tif' is neither s3://bucket/key nor"),
        ({"imageUrls": ["http://h/a.tif"]}, "imageUrls[0]: 'http://h/a.tif' is neither"),
        ({"imageUrls": ["file:///a.tif"]}, "is a file URL; give the path alone"),
        ({"imageUrls": ["/vsicurl/http://h/a"]}, "is one of GDAL's virtual file systems"),
        ({"imageUrls": ["//VSIZIP/a"]}, "is one of GDAL's virtual file systems"),
        ({"imageUrls": ["/a/../b.tif"]}, "holds a . or .. as a segment"),
        ({"imageUrls": ["s3://images/../b.tif"]}, "holds a . or .. as a segment"),
        ({"imageUrls": ["s3://images"]}, "does not name an object; give s3://bucket/key"),
        ({"imageUrls": ["s3://images/a/"]}, "does not name an object; give s3://bucket/key"),
        ({"imageUrls": ["s3://Images/a"]}, "names 'Images', not an S3 bucket"),
        ({"imageUrls": ["/data/"]}, "is a folder; give the path of one image"),
        ({"imageUrls": ["/a\tb.tif"]}, "holds the control character U+0009"),
        ({"imageUrls": ["/" + "x" * 201]}, "takes 201 bytes, and at most 200 are allowed"),
        ({"outputs": None}, "outputs: null is not a list"),
        ({"outputs": {"type": "S3"}}, "outputs: an object is not a list"),
        ({"outputs": [{"type": "SQS"}]}, "outputs[0].type: 'SQS' is not one of 'S3', 'Kinesis'"),
        ({"outputs": [{"bucket": "b"}]}, "outputs[0].type: missing; give it"),
        ({"outputs": [{"type": "S3"}]}, "outputs[0].bucket: missing; give it, for example"),
        (
            {"outputs": [{"type": "File", "path": "/out", "formats": ["shp"]}]},
            "outputs[0].formats[0]: 'shp' is not one of 'geojson', 'geojsonl', 'parquet'",
        ),
        (
            {"outputs": [{"type": "Kinesis", "stream": "s", "formats": ["geojson"]}]},
            "outputs[0].formats: unknown field",
        ),
        ({"outputs": [{"type": "File", "path": "out"}]}, "outputs[0].path: 'out' is neither"),
        ({"outputs": [{"type": "Kinesis", "stream": "a b"}]}, "outputs[0].stream: 'a b' is not"),
        ({"outputs": [], "outputBucket": "b"}, "outputBucket: 'b' came without outputPrefix"),
        ({"outputs": [], "outputPrefix": "p"}, "outputPrefix: 'p' came without outputBucket"),
        ({"imageProcessor": "ships"}, "imageProcessor: 'ships' is not an object"),
        ({"imageProcessor": {}}, "imageProcessor.name: missing; give it"),
        ({"imageProcessorTileSize": "abc"}, "imageProcessorTileSize: 'abc' is not a whole number"),
        ({"imageProcessorTileSize": True}, "imageProcessorTileSize: true is not a whole number"),
        ({"imageProcessorTileSize": 10.5}, "imageProcessorTileSize: 10.5 is not a whole number"),
        ({"imageProcessorTileSize": 8}, "imageProcessorTileSize: 8 is below 16; give at least 16"),
        ({"imageProcessorTileSize": 10**6}, "is above 16384; give at most 16384"),
        ({"imageProcessorTileOverlap": -1}, "imageProcessorTileOverlap: -1 is below 0"),
        ({"imageProcessorTileOverlap": 1024}, "imageProcessorTileOverlap: 1024 is not below imag"),
        ({"imageProcessorTileSize": 50}, "imageProcessorTileOverlap: 50 is not below imageProces"),
        ({"imageProcessorTileFormat": "TIFF"}, "imageProcessorTileFormat: 'TIFF' is not one of"),
        ({"imageReadRole": "reader"}, "imageReadRole: 'reader' is not the ARN of an IAM role"),
        ({"imageReadRole": "arn:aws:iam::1:user/x"}, "is not the ARN of an IAM role"),
        ({"imageBands": 4}, "imageBands: 4 is not a list; give one in [ ], for example [4, 3, 2]"),
        ({"imageBands": [0]}, "imageBands[0]: 0 is not a band; give its number, from 1, or its"),
        ({"imageBands": [" red"]}, "imageBands[0]: ' red' begins or ends with a space"),
        ({"imageFill": "none"}, "imageFill: 'none' is not a finite number; give one"),
        ({"priority": 1000}, "priority: 1000 is above 100; give at most 100"),
        ({"tags": {"owner": 5}}, "tags.owner: 5 is not text; give a string in quotes"),
        ({"tags": {"owner": "a\nb"}}, "tags.owner: 'a\\nb' cannot be in a tag; give letters"),
        ({"tags": {"aws:owner": "a"}}, "holds the reserved name 'aws:owner'; give another"),
        (
            {"tags": {"owner": "a", "Owner": "b"}},
            "tags: holds 'owner' and 'Owner', both of them the owner; give one",
        ),
        ({"imageScaling": {"type": "log"}}, "imageScaling.type: 'log' is not one of 'linear', "),
        ({"imageScaling": {"type": "linear"}}, "imageScaling.minimum: is missing, and linear need"),
        (
            {"imageScaling": {"type": "linear", "minimum": 5, "maximum": [9, 9]}},
            "imageScaling.maximum: has 2 numbers, and minimum has 1; give as many",
        ),
        (
            {"imageScaling": {"type": "linear", "minimum": 9, "maximum": 9}},
            "imageScaling.minimum: is not below maximum; give a lower one",
        ),
        (
            {"imageScaling": {"type": "linear", "minimum": 0, "maximum": 9, "mean": 3}},
            "imageScaling.mean: is not for the type linear; leave it out",
        ),
        (
            {"imageScaling": {"type": "percentile", "lower": 98, "upper": 2}},
            "imageScaling.lower: 98 is not below upper; give a lower one",
        ),
        (
            {"imageScaling": {"type": "z-score", "mean": 3, "stddev": 0}},
            "imageScaling.stddev: is not above 0; give a higher one",
        ),
        (
            {"imageScaling": {"type": "linear", "minimum": 0, "maximum": 1e-300}},
            "imageScaling.maximum: is too near to minimum, or too far from it; give another",
        ),
        (
            {"imageScaling": {"type": "linear", "minimum": -1e308, "maximum": 1e308}},
            "imageScaling.maximum: is too near to minimum, or too far from it; give another",
        ),
        (
            {"imageScaling": {"type": "z-score", "mean": 3, "stddev": 1e-300}},
            "imageScaling.stddev: is not above 0; give a higher one",
        ),
        (
            {"imageScaling": {"type": "z-score", "dataType": "uint8"}},
            "imageScaling.dataType: uint8 cannot hold z-scores below 0; leave it out",
        ),
        ({"regionOfInterest": "POINT (1 2)"}, "regionOfInterest: 'POINT (1 2)' is not a polygon"),
        ({"regionOfInterest": "POLYGON EMPTY"}, "is empty; leave the field out"),
        ({"regionOfInterest": "POLYGON ((0 0, 1"}, "is not well-formed WKT"),
        (
            {"regionOfInterest": "POLYGON ((0 0, 1 1, 0 1, 1 0, 0 0))"},
            "is not a valid polygon: Self-intersection[0.5 0.5]",
        ),
        (
            {"regionOfInterest": "POLYGON ((10 100, 11 100, 11 101, 10 100))"},
            "has the position 10 100, outside longitude -180 to 180 and latitude -90 to 90; longit",
        ),
        ({"regionOfInterest": "POLYGON ((0 0, nan 1, 1 1, 0 0))"}, "has the position nan 1"),
        ({"regionOfInterest": "GEOMETRYCOLLECTION(" * 10**5}, "is not a polygon"),
        (
            {"imageStacItems": {"s3://images/b.tif": "c.json"}},
            "'c.json' is neither s3://bucket/key nor",
        ),
        (
            {"imageStacItems": {"s3://images/b.tif": "ftp://a/b"}},
            "'ftp://a/b' does not name a file",
        ),
        ({"imageStacItems": {"s3://images/b.tif": "https://a/b?key=1"}}, "give the URL without it"),
        (
            {"imageStacItems": {"s3://images/b.tif": "/b.json"}},
            "names 's3://images/b.tif', which imageUrls",
        ),
        ({"featureProperties": {"a": 1}}, "featureProperties: an object is not a list"),
        ({"featureProperties": ["a"]}, "featureProperties[0]: 'a' is not an object"),
        ({"featureProperties": [{"a": {"$ref": "x"}}]}, "holds the name $ref, reserved by Prefect"),
        ({"featureProperties": [{"a": 2**64}]}, "holds an integer of more than 64 bits"),
        ({"featureProperties": [{"a": "\ud800"}]}, "holds half of a surrogate pair"),
        ({"postProcessing": DEFAULTS["postProcessing"] * 2}, "has 2 entries; give at most 1"),
        ({"postProcessing": [{"step": "BLUR"}]}, "postProcessing[0].step: 'BLUR' is not"),
    ],
)
def test_a_refusal_names_field_value_and_remedy(fields: dict[str, Any], reason: str) -> None:
    lines = refusal(**fields).splitlines()
    assert len(lines) == 1
    assert reason in lines[0]
    assert ";" in lines[0]


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        ({"name": "http://h/x"}, "is a URL, and a SageMaker endpoint has none; give type HTTP_END"),
        ({"name": "x" * 2049}, "is longer than 2048 characters"),
        ({"name": "a b"}, "is not the name of a SageMaker endpoint"),
        ({"name": "ships", "type": "HTTP_ENDPOINT"}, "is not a URL, which HTTP_ENDPOINT needs"),
        ({"name": "ftp://h", "type": "OIP_ENDPOINT"}, "is not a URL, which OIP_ENDPOINT needs"),
        ({"name": "http://h:99999", "type": "HTTP_ENDPOINT"}, "is not a URL"),
        ({"name": "ships.pt", "type": "ONNX"}, "is not an ONNX file"),
        ({"name": "https://h/ships.onnx", "type": "ONNX"}, "is a file on the web"),
        ({"name": "s3://models", "type": "ONNX"}, "does not name an object"),
    ],
)
def test_a_name_that_does_not_fit_the_endpoint_type_is_refused(
    processor: dict[str, str], reason: str
) -> None:
    line = refusal(imageProcessor=processor)
    assert line.startswith(f"imageProcessor.name: '{processor['name'][:20]}")
    assert reason in line


@pytest.mark.parametrize("value", [None, True, [1], {"a": 1}, 2**64, "a\r\nb"])
def test_a_parameter_that_is_not_text_or_a_number_is_refused(value: object) -> None:
    assert parse(imageProcessorParameters={"a": 1.5, "b": "x"}).image_processor_parameters == {
        "a": 1.5,
        "b": "x",
    }
    assert refusal(imageProcessorParameters={"X-A": value}).startswith("imageProcessorParameters.")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "$ref", "__prefect_kind", "é"])
def test_a_parameter_name_that_is_not_a_header_name_is_refused(name: str) -> None:
    assert "is not a parameter's name" in refusal(imageProcessorParameters={name: "x"})


@pytest.mark.parametrize("bucket", ["ab", "A" * 5, "a..b", "1.2.3.4", "a_b", "-ab", "s3://abc"])
def test_an_invalid_bucket_name_is_refused(bucket: str) -> None:
    line = refusal(outputs=[{"type": "S3", "bucket": bucket}])
    assert line.startswith(f"outputs[0].bucket: '{bucket}' is not the name of an S3 bucket; give")


@pytest.mark.parametrize("prefix", ["..", "a/../b", "s3://b/c", "a\0b", "é" * 351])
def test_an_invalid_prefix_is_refused(prefix: str) -> None:
    output = {"type": "S3", "bucket": "results", "prefix": prefix}
    assert refusal(outputs=[output]).startswith("outputs[0].prefix: ")


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        ({"algorithmType": "MAGIC"}, "algorithmType: 'MAGIC' is not one of 'NMS', 'SOFT_NMS'"),
        ({"iouThreshold": 2}, "iouThreshold: 2 is above 1; give at most 1"),
        ({"iouThreshold": True}, "iouThreshold: true is not a finite number"),
        ({"skipBoxThreshold": -1}, "skipBoxThreshold: -1 is below 0"),
        ({"sigma": 0}, "sigma: 0 is not above 0"),
        ({"classes": "ship"}, "classes: 'ship' is not a list; give one in [ ], for example"),
        ({"classes": ["ship", ""]}, "classes[1]: '' is empty"),
        ({"classThresholds": 0.4}, "classThresholds: 0.4 is not an object"),
        ({"classThresholds": {"ship": 40}}, "classThresholds.ship: 40 is above 1"),
        ({"classThresholds": {"$ref": 0.4}}, "classThresholds: holds the name $ref, reserved"),
        (
            {"classes": ["ship"], "classThresholds": {"barge": 0.4}},
            "classThresholds: names 'barge', which is not in algorithm.classes; add",
        ),
        ({"iouTreshold": 0.5}, "iouTreshold: unknown field; did you mean iouThreshold?"),
    ],
)
def test_an_invalid_algorithm_is_refused(algorithm: dict[str, Any], reason: str) -> None:
    line = refusal(postProcessing=[{"step": "FEATURE_DISTILLATION", "algorithm": algorithm}])
    assert line.startswith(f"postProcessing[0].algorithm.{reason}")


def test_every_problem_is_reported_on_its_own_line() -> None:
    lines = refusal(jobId=None, jobName=5, imageProcessorTileSize="x", colour=1).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "jobId",
        "jobName",
        "imageProcessorTileSize",
        "colour",
    ]


def test_the_number_of_reported_problems_is_limited() -> None:
    lines = refusal(imageUrls=[f"{i}.tif" for i in range(100)]).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "… and 80 more"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "not JSON, Expecting value at line 1 column 1"),
        ('{"jobId": }', "not JSON, Expecting value at line 1 column 11"),
        ("[]", "'[]' is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'{"jobId": "\xff"}', "not UTF-8 at byte 11"),
        ('{"a": NaN}', "NaN is not a number of JSON"),
        ('{"a": -Infinity}', "-Infinity is not a number of JSON"),
        ('{"a": 1e999}', "1e999 is too large a number"),
        ('{"a": ' + "9" * 5000 + "}", "holds an integer of too many digits"),
        ("[" * 200_000, "nested too deeply"),
        ('{"jobId": "a", "jobId": "b"}', "'jobId': given twice in one object"),
    ],
)
def test_text_that_is_not_a_json_object_is_refused(body: str | bytes, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        Request.parse(body)
    assert reason in str(caught.value)


def test_a_validation_error_of_prefect_is_described_in_the_same_way() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(dict[str, Request]).validate_python({"request": MESSAGE | {"jobbId": "x"}})
    assert describe_errors(caught.value) == "request.jobbId: unknown field; did you mean jobId?"


@given(anything)
def test_any_json_is_accepted_or_refused(value: object) -> None:
    with pytest.raises(RequestError):
        Request.parse(json.dumps(value))


@given(st.sampled_from(sorted(MESSAGE | DEFAULTS)), anything)
@example("outputs", [{"type": ["S3"]}])
@example("imageProcessorParameters", {"a": float("nan")})
def test_any_value_of_a_field_is_accepted_or_refused_with_its_name(
    name: str, value: object
) -> None:
    reason, request = "", None
    try:
        request = Request.model_validate(MESSAGE | {name: value})
    except ValidationError as error:
        reason = describe_errors(error)
    if request is None:
        assert all(
            line.startswith((f"{name}:", f"{name}.", f"{name}[", "…"))
            for line in reason.split("\n")
        )
    else:
        assert Request.parse(request.model_dump_json()) == request


# --- identity and file names ----------------------------------------------------------------------


@given(messages())
def test_a_dumped_request_parses_to_the_same_request(message: dict[str, Any]) -> None:
    request = Request.parse(json.dumps(message))
    assert Request.model_validate(request.model_dump(mode="json")) == request
    assert Request.parse(request.model_dump_json()) == request
    assert Request.model_validate(request.model_dump()) == request


@pytest.mark.parametrize("name", ["owner", "Owner", "OWNER"])
def test_the_owner_is_the_same_however_its_tag_is_written(name: str) -> None:
    asked = parse(tags={name: "Maritime", "CostCentre": "4711"})
    assert asked.owner == "Maritime"
    assert asked.tags == {name: "Maritime", "CostCentre": "4711"}  # AWS tells them apart


def test_the_identity_does_not_depend_on_whose_job_it_is_or_when_it_begins() -> None:
    other = parse(priority=5, tags={"owner": "maritime"})
    assert other.identity("x") == parse().identity("x")


def test_the_identity_of_an_image_depends_on_its_own_stac_item_alone() -> None:
    urls = ["s3://images/harbour.tif", "s3://images/port.tif"]

    def of(**items: str) -> list[str]:
        stac = {f"s3://images/{name}.tif": item for name, item in items.items()}
        asked = parse(imageUrls=urls, imageStacItems=stac)
        return [asked.identity(url) for url in urls]

    (harbour, port), with_item = of(), of(port="https://a.example/port.json")
    assert with_item[0] == harbour
    assert len({port, with_item[1], of(port="https://a.example/x.json")[1]}) == 3


@given(messages(), st.randoms())
def test_the_identity_depends_on_the_content_only(message: dict[str, Any], chance: Any) -> None:
    request = Request.parse(json.dumps(message))
    url = request.image_urls[0]
    names = list(message)
    chance.shuffle(names)
    shuffled = {name: message[name] for name in names}
    assert Request.parse(json.dumps(shuffled)).identity(url) == request.identity(url)
    assert Request.parse(request.model_dump_json()).identity(url) == request.identity(url)
    assert Request.parse(json.dumps(DEFAULTS | message)).identity(url) == request.identity(url)
    other = Request.parse(json.dumps(message | {"jobId": message["jobId"] + "x"}))
    assert other.identity(url) != request.identity(url)
    assert len({request.identity(url) for url in request.image_urls}) == len(request.image_urls)


def test_the_identity_is_stable_between_releases() -> None:
    assert (
        parse().identity("s3://images/harbour.tif")
        == "0a3b9f51c732b6406a16d9a4753fa42b0ee9f592d359dd20afb11a48251246be"
    )


@given(
    st.lists(
        st.builds(
            "s3://images/{}/{}".format,
            st.integers(0, 9),
            st.sampled_from(["x.tif", "x-2.tif", "x-3.tif", "x-2-2.tif", "x", ".tif", "x.y.tif"]),
        ),
        min_size=1,
        unique=True,
    )
)
def test_file_names_are_distinct_and_begin_with_the_images_names(urls: list[str]) -> None:
    names = parse(imageUrls=urls).file_names()
    own = {url: url.rpartition("/")[2] for url in urls}
    assert list(names) == urls
    assert len(set(names.values())) == len(urls)
    for url, name in names.items():
        first = next(other for other in urls if own[other] == own[url])
        assert (name == own[url]) == (url == first)
        assert name == own[url] or name not in own.values()


def test_no_file_name_collides_with_the_coverage_of_another_image() -> None:
    urls = ["s3://images/x.tif.coverage", "s3://images/x.tif", "s3://images/y.coverage"]
    assert list(parse(imageUrls=urls).file_names().values()) == [
        "x.tif-2.coverage",
        "x.tif",
        "y.coverage",
    ]


def test_images_of_the_same_name_are_numbered() -> None:
    urls = ["s3://images/a/x.tif", "/data/x.tif", "/data/x-2.tif"]
    assert list(parse(imageUrls=urls).file_names().values()) == ["x.tif", "x-3.tif", "x-2.tif"]


def test_request_is_frozen() -> None:
    request = parse()
    with pytest.raises(ValidationError):
        request.tile_size = 5  # type: ignore[misc]


# --- the schema -----------------------------------------------------------------------------------


@cache
def _validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(request_schema())
    return jsonschema.Draft202012Validator(request_schema())


def _accepts(message: object) -> bool:
    return bool(_validator().is_valid(message))


@pytest.mark.skipif(not SAMPLE.exists(), reason="shared/osml is not on this machine")
def test_the_schema_accepts_the_osml_sample() -> None:
    assert _accepts(json.loads(SAMPLE.read_text()))


def test_schema_is_valid_and_strict() -> None:
    assert _accepts(MESSAGE)
    assert not _accepts(MESSAGE | {"regionOfIntrest": SQUARE})
    assert not _accepts(MESSAGE | {"imageProcessorTileSize": 8})
    assert not _accepts({name: MESSAGE[name] for name in MESSAGE if name != "jobId"})


def test_the_schema_accepts_the_legacy_fields_instead_of_outputs() -> None:
    without = {name: value for name, value in MESSAGE.items() if name != "outputs"}
    assert _accepts(without | {"outputBucket": "results", "outputPrefix": "p"})
    assert not _accepts(without | {"outputBucket": "results"})


@given(messages())
def test_the_schema_accepts_every_valid_request(message: dict[str, Any]) -> None:
    assert _accepts(message)
    assert _accepts(Request.parse(json.dumps(message)).model_dump(mode="json"))


def test_every_field_has_a_title_a_description_and_an_example() -> None:
    schema = request_schema()
    for part in (schema, *schema["$defs"].values()):
        for name, field in part.get("properties", {}).items():
            assert field["description"].endswith("."), name
            assert "title" in field or "$ref" in field, name


def test_the_examples_of_fields_are_valid() -> None:
    for name, field in request_schema()["properties"].items():
        for value in field.get("examples", []):
            parse(**{name: value})


def test_prefect_can_make_a_form_of_the_request() -> None:
    def image(request: Request) -> None: ...

    schema = parameter_schema(image).model_dump_for_openapi()
    definition = schema["definitions"]["Request"]
    assert definition["required"] == ["jobId", "imageUrls", "outputs", "imageProcessor"]
    assert set(DEFAULTS) <= set(definition["properties"])
    parameters = {"request": parse().model_dump(mode="json")}
    assert validate(parameters, schema, preprocess=True) == []
    parameters["request"]["regionOfIntrest"] = SQUARE
    assert validate(parameters, schema, preprocess=True) != []
