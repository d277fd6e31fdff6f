"""The words of the command line as the keyword arguments of `swath.py`."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.run.merging import MergingOptions
from deployments.run.model import ModelOptions
from deployments.run.option_names import in_options
from deployments.run.options import RunOptions, TilingOptions
from deployments.run.raster import RasterOptions
from tasks.errors import RequestError, SwathError

if TYPE_CHECKING:
    from tasks.inference.callable import CallableModel


_CLASSES = (RunOptions, ModelOptions, TilingOptions, RasterOptions, MergingOptions)
_NUMBERS = ("tile_size", "overlap", "region_size", "nodata", "resolution", "fill")  # of tiling
_KEYWORDS = {"IMAGES": "image", "--parameter": "parameters"} | {
    "--" + field.name.replace("_", "-"): field.name for each in _CLASSES for field in fields(each)
}
_COMMAND = r"swath models describe .*? --out\b"  # to be pasted into a terminal
_OPTIONS = re.compile("|".join((_COMMAND, *(rf"{option}\b(?!-)" for option in _KEYWORDS))))


@contextmanager
def naming_keywords() -> Iterator[None]:
    """Let an error of the block name keyword arguments where it names options or fields."""
    try:
        yield
    except SwathError as error:
        if error.args and isinstance(error.args[0], str):  # of a failed job it is the summary
            text = in_options(error.args[0])
            named = _OPTIONS.sub(lambda found: _KEYWORDS.get(found.group(), found.group()), text)
            error.args = (named, *error.args[1:])
        raise


def function_model(
    model: object,
    type: str | None,  # noqa: A002 - the keyword's name
    parameters: Mapping[str, object] | None,
    class_names: Sequence[str] | Mapping[int, str] | None,
    batch_size: int,
) -> CallableModel | None:
    """The model, if it is a Python function; None if it is a name, URL or file.

    Raises:
        RequestError: It is neither, or has an argument of the other.
    """
    if isinstance(model, str | PathLike):
        if class_names is not None:
            raise RequestError(
                "class_names: it is for Python functions and rasters; leave it out, or give raster "
                f"too if {model} answers with pixels."
            )
        return None
    if not callable(model):
        raise RequestError(
            f"model: {model!r:.100} is neither text nor a function; give a name, URL, ONNX file or "
            "function."
        )
    if type is not None or parameters:
        raise RequestError(
            f"{'parameters' if type is None else 'type'}: a Python function has none; leave it "
            "out, and bind arguments with functools.partial."
        )
    from tasks.inference.callable import CallableModel

    return CallableModel(model, class_names=class_names, batch_size=batch_size)


def roi_text(roi: Any) -> str | None:  # noqa: ANN401 - a class of another library
    """A region of interest as the command line takes it: WKT in longitude, latitude, or a path.

    Args:
        roi: That, a geometry of shapely in longitude, latitude, or a table of geopandas.

    Raises:
        RequestError: It is something else, or a table without a reference system.
    """
    if roi is None or isinstance(roi, str | Path):
        return None if roi is None else str(roi)
    if hasattr(roi, "to_crs"):
        if roi.crs is None:
            raise RequestError("roi: the table has no crs; set it, with roi.set_crs('EPSG:…').")
        return str(roi.to_crs("EPSG:4326").union_all().wkt)
    if hasattr(roi, "wkt"):
        return str(roi.wkt)
    raise RequestError(
        f"roi: {type(roi).__name__} is no region of interest; give WKT, the path of a file, a "
        "polygon of shapely (longitude, latitude), or a GeoDataFrame."
    )


def numbers(**arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - a number of any library
    """Arguments as numbers of Python, which those of NumPy are not; None stays.

    Raises:
        RequestError: One is no number.
    """
    plain = {
        name: value.item() if getattr(value, "ndim", None) == 0 else value
        for name, value in arguments.items()
    }
    for name, value in plain.items():
        if not isinstance(value, int | float | None):
            raise RequestError(f"{name}: {value!r:.100} is not a number; give one.")
    return plain


def parameter_texts(parameters: Mapping[str, object] | None) -> tuple[str, ...]:
    """The parameters of a model, each NAME=VALUE."""
    return tuple(f"{name}={value}" for name, value in (parameters or {}).items())


def conf_texts(conf: float | Mapping[str, float] | None) -> tuple[str, ...]:
    """Lowest scores: one for all classes, or CLASS=SCORE for each."""
    if isinstance(conf, Mapping):
        return tuple(_quoted(f"{name}={score}") for name, score in conf.items())
    return () if conf is None else (str(conf),)


def class_texts(classes: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of classes: one, or several."""
    if isinstance(classes, str):
        return (_quoted(classes),)
    return tuple(map(_quoted, classes or ()))


def format_texts(formats: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of formats: one, or several."""
    return (formats,) if isinstance(formats, str) else tuple(formats or ())


def band_texts(bands: str | Sequence[int | str] | None) -> tuple[str, ...]:
    """Bands, by numbers or names."""
    if isinstance(bands, str):
        return (bands,)
    return tuple(_quoted(str(band)) for band in ([] if bands is None else bands))


def json_text(name: str, value: str | Mapping[str, object] | None) -> str | None:
    """An argument as the command line takes it: text as it is, a dict as JSON.

    Raises:
        RequestError: The dict has a value that JSON has not.
    """
    if not isinstance(value, Mapping):
        return value
    try:
        return json.dumps(dict(value))
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"{name}: the dict has a value that JSON has not ({error}); give text, numbers, lists "
            "and dicts."
        ) from error


def tile_output_text(
    output: str | Mapping[str, object] | None,
    class_names: Sequence[str] | Mapping[int, str] | None,
) -> str | None:
    """What a model answers about whole tiles, as the command line takes it.

    Args:
        output: Its word, or a dict with the fields of `tileOutput`.
        class_names: Names in the order of the numbers, or by number from 0.

    Raises:
        RequestError: The dict has a value that JSON has not, or a number has no name.
    """
    if output is None or (isinstance(output, str) and class_names is None):
        return output
    fields: dict[str, object] = {"values": output} if isinstance(output, str) else dict(output)
    if isinstance(class_names, Mapping):
        missing = [number for number in range(len(class_names)) if number not in class_names]
        if missing:
            raise RequestError(
                f"class_names: has no name for {missing[0]}; number the classes from 0."
            )
        class_names = [class_names[number] for number in range(len(class_names))]
    if class_names is not None:
        fields["classes"] = list(class_names)
    return json_text("tile_output", fields)


def tiling_options(*, roi: object, bands: Any, scale: Any, **options: Any) -> TilingOptions:  # noqa: ANN401 - of several types
    """The options of what an image's tiles are and hold.

    Args:
        roi: Region of interest, as for `roi_text`.
        bands: As for `band_texts`.
        scale: How values are scaled, or a dict with the fields of `imageScaling`.
        options: The others, as they are.

    Raises:
        RequestError: A value is not of its type.
    """
    named = {name: options.pop(name) for name in _NUMBERS}
    return TilingOptions(
        roi=roi_text(roi),
        bands=band_texts(bands),
        scale=json_text("scale", scale),
        **options,
        **numbers(**named),
    )


def raster_options(
    raster: str | Mapping[str, object] | None,
    class_names: Sequence[str] | Mapping[int, str] | None,
    **options: Any,  # noqa: ANN401 - of several types
) -> RasterOptions:
    """The options for a model that answers with pixels.

    Args:
        raster: What the pixels hold, or a dict with the fields of `rasterOutput`.
        class_names: Names in the order of the numbers, or by number.
        options: The others, as they are.

    Raises:
        RequestError: The dict has a value that JSON has not, or `polygons` is no bool.
    """
    polygons = options.get("polygons", False)
    if not isinstance(polygons, bool):
        raise RequestError(
            f"polygons: {polygons!r:.100} is not True or False; give its fields in raster, as "
            "{'polygons': {'minimumArea': 16}}."
        )
    raster = json_text("raster", raster)
    if isinstance(class_names, Mapping):
        class_names = [f"{number}={name}" for number, name in class_names.items()]
    names = class_texts(class_names)
    return RasterOptions(raster=raster, class_names=names, **options)


def _quoted(word: str) -> str:
    """A word in quotes if it has a comma, which separates words on the command line."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([word])
    return line.getvalue()
