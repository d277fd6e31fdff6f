"""The Python API of Swath: machine-learning models over satellite images of any size.

```python
import swath

result = swath.run("scene.tif", model="yolox.onnx", tile_size=416, overlap=64)
result.features  # a GeoDataFrame
```

Everything runs in this process. What is slow to import is imported by the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deployments.python.result import Result
from tasks.errors import SwathError

if TYPE_CHECKING:
    from tasks.planning.estimate import Estimate

__all__ = ["Result", "SwathError", "plan", "run"]


def run(
    image: object,
    *,
    model: str | PathLike[str] | Callable[[Any], Any],
    type: str | None = None,  # noqa: A002 - the option's name
    parameters: Mapping[str, object] | None = None,
    batch_size: int = 8,
    tile_size: int | None = None,
    overlap: int | None = None,
    tile_format: str | None = None,
    tile_compression: str | None = None,
    region_size: int | None = None,
    roi: object = None,
    nodata: float | None = None,
    alpha: Literal["mask", "ignore"] | None = None,
    read_role: str | None = None,
    bands: str | Sequence[int | str] | None = None,
    scale: str | Mapping[str, object] | None = None,
    resolution: float | None = None,
    fill: float | None = None,
    transform: object = None,
    crs: object = None,
    raster: str | Mapping[str, object] | None = None,
    class_names: Sequence[str] | Mapping[int, str] | None = None,
    blend: Literal["smooth", "clip", "max", "vote"] | None = None,
    augment: Literal["flips", "turns"] | None = None,
    scores: Literal["uint8", "float32"] | None = None,
    polygons: bool = False,
    min_area: float | None = None,
    tile_output: str | Mapping[str, object] | None = None,
    conf: float | Mapping[str, float] | None = None,
    classes: str | Sequence[str] | None = None,
    merge: Literal["NMS", "SOFT_NMS", "NMM", "WBF", "DISSOLVE", "NONE"] | None = None,
    iou: float | None = None,
    measure: Literal["IOU", "IOS"] | None = None,
    class_agnostic: bool = False,
    formats: str | Sequence[str] | None = None,
    out: str | PathLike[str] | None = None,
    max_tiles: int | None = None,
    max_cost: float | None = None,
    fresh: bool = False,
    job_id: str | None = None,
    progress: bool = True,
) -> Result:
    """Run a model over an image, in this process.

    The arguments are the options of `swath run`, whose help has their defaults, and a few for
    arrays and Python functions.

    Args:
        image: Path, s3:// URL, or an array: (bands, height, width) or (height, width).
        model: Name, URL, ONNX file, or a Python function. It is called in one other thread with a
            batch of tiles (n, bands, height, width) in the pixel type of the image, and returns an
            answer for each tile, in pixels of the tile: an array of boxes (n, 4), (n, 5) or (n, 6);
            a dict of `boxes` or `polygons` with `scores` and `classes`; a list of shapely
            geometries; or a GeoJSON FeatureCollection. With `raster`, an array (bands, height,
            width) of the tile's size; with `tile_output`, an array of numbers.
        type: Kind of endpoint; derived from the model unless given.
        parameters: Parameters of the model.
        batch_size: Of a function: maximum number of tiles in one call.
        tile_size: Side of a tile in pixels.
        overlap: Minimum overlap of tiles in pixels.
        tile_format: Of models behind a network: NITF, GTIFF, PNG, JPEG or NPY.
        tile_compression: Of models behind a network: NONE, LZW, ZSTD, JPEG or J2K.
        region_size: Approximate height of a region in pixels; it changes no result.
        roi: Region of interest: WKT in longitude, latitude; the path of a file with polygons; a
            geometry of shapely in longitude, latitude; or a GeoDataFrame.
        nodata: Value of pixels without data, in place of the image's own.
        alpha: What an alpha band is: the mask of pixels with data, or a band as any other.
        read_role: IAM role for reading the image.
        bands: Bands that the model gets, in its order: numbers from 1, or names.
        scale: How values are scaled: "percentile:2,98" (of the whole image), "linear:0,3000" or
            "z-score:1200,300", with ":float32" behind for values from 0 to 1; or a dict with the
            fields of `imageScaling`.
        resolution: Metres a pixel at which tiles are read and sent; the image's own unless given.
        fill: What pixels without data hold in a tile, before scaling; 0 unless given.
        transform: Of an array: `affine.Affine` from pixels to coordinates in `crs`.
        crs: Of an array: its coordinate reference system, such as "EPSG:32631".
        raster: What the model's pixels hold: classes, probabilities, logits or values; or a dict
            with the fields of `rasterOutput`. By the model's description unless given.
        class_names: Of a function, or with `raster`: name of each class number, as a list (from 0,
            of a raster with sigmoid from 1) or a dict.
        blend: How overlapping tiles make one raster; smooth unless given, clip for classes.
        augment: Further views of each tile that the model is asked for, 4 or 8 in all.
        scores: Data type of the probabilities of every class, in a file of their own.
        polygons: Whether to publish the outlines of the classes too.
        min_area: Pixels that a polygon has at least.
        tile_output: What the model answers about each tile as a whole: probabilities, logits, or
            embedding:SIZE; or a dict with the fields of `tileOutput`. Each tile is one feature, and
            none is merged. By the model's description unless given.
        conf: Score below which detections are dropped, 0 to 1; a dict for single classes.
        classes: Classes to keep; with `polygons`, those to outline.
        merge: How duplicates of overlapping tiles are removed.
        iou: Overlap above which two detections are one object.
        measure: Measure of the overlap: intersection over union, or over the smaller of both.
        class_agnostic: Whether detections of different classes may be one object.
        formats: Formats of the files with features, or "all": geojson and parquet unless given. The
            tables of the result are read from parquet.
        out: Folder for the files of the result; a temporary one unless given.
        max_tiles: Tiles that the model is asked for, at the most: an image with more is refused,
            and a job that reaches it stops with what it has.
        max_cost: What the job may cost, at the most, in the currency of SWATH_PRICES.
        fresh: Whether to ask for all tiles, also those that an earlier run into `out` was answered.
        job_id: Identifier of the job; a random one unless given.
        progress: Whether to show the progress on standard error, or below the cell of a notebook.

    Returns:
        The result. If it is not complete (`result.summary.status` is PARTIAL), a warning says why.

    Raises:
        IncompleteJobError: Every tile that was sent to the model failed; its `summary` has the
            reasons, and its cause is what a Python function raised.
        SwathError: An argument has an invalid value, or the image cannot be processed.
    """
    from deployments.python import call, keywords
    from deployments.run.merging import MergingOptions
    from deployments.run.model import ModelOptions
    from deployments.run.options import RunOptions, new_job_id

    with keywords.naming_keywords():
        of_numbers = raster is not None or tile_output is not None
        own_names = None if of_numbers else class_names
        function = keywords.function_model(model, type, parameters, own_names, batch_size)
        options = RunOptions(
            images=(),
            model=ModelOptions(
                str(model) if function is None else function.name,
                type if function is None else "BUILTIN",
                keywords.parameter_texts(parameters),
            ),
            out=Path(),
            tiling=keywords.tiling_options(
                tile_size=tile_size,
                overlap=overlap,
                tile_format=tile_format,
                tile_compression=tile_compression,
                region_size=region_size,
                roi=roi,
                nodata=nodata,
                alpha=alpha,
                read_role=read_role,
                bands=bands,
                scale=scale,
                resolution=resolution,
                fill=fill,
            ),
            merging=MergingOptions(
                conf=keywords.conf_texts(conf),
                classes=keywords.class_texts(classes),
                merge=merge,
                measure=measure,
                class_agnostic=class_agnostic,
                **keywords.numbers(iou=iou),
            ),
            raster=keywords.raster_options(
                raster,
                None if raster is None else class_names,
                blend=blend,
                augment=augment,
                scores=scores,
                polygons=polygons,
                **keywords.numbers(min_area=min_area),
            ),
            tile_output=keywords.tile_output_text(
                tile_output, None if raster is not None else class_names
            ),
            formats=keywords.format_texts(formats),
            job_id=new_job_id() if job_id is None else job_id,
            fresh=fresh,
            **keywords.numbers(max_tiles=max_tiles, max_cost=max_cost),
        )
        return call.result_of_run(
            image,
            options,
            function,
            transform=transform,
            crs=crs,
            out=None if out is None else Path(out),
            progress=progress,
        )


def plan(
    image: object,
    *,
    model: str | PathLike[str] | None = None,
    type: str | None = None,  # noqa: A002 - the option's name
    parameters: Mapping[str, object] | None = None,
    tile_size: int | None = None,
    overlap: int | None = None,
    tile_format: str | None = None,
    tile_compression: str | None = None,
    region_size: int | None = None,
    roi: object = None,
    nodata: float | None = None,
    alpha: Literal["mask", "ignore"] | None = None,
    read_role: str | None = None,
    bands: str | Sequence[int | str] | None = None,
    scale: str | Mapping[str, object] | None = None,
    resolution: float | None = None,
    fill: float | None = None,
    transform: object = None,
    crs: object = None,
    raster: str | Mapping[str, object] | None = None,
    class_names: Sequence[str] | Mapping[int, str] | None = None,
    blend: Literal["smooth", "clip", "max", "vote"] | None = None,
    augment: Literal["flips", "turns"] | None = None,
    scores: Literal["uint8", "float32"] | None = None,
    polygons: bool = False,
    min_area: float | None = None,
) -> Estimate:
    """Estimate what an image will take, before any model is called: tiles, calls, bytes, memory.

    Args:
        image: As for `run`, and so are the others.
        model: Gives the size of tiles if it says one; it is not called.
        type: Kind of endpoint.
        parameters: Parameters of the model.
        tile_size: Side of a tile in pixels.
        overlap: Minimum overlap of tiles in pixels.
        tile_format: NITF, GTIFF, PNG, JPEG or NPY.
        tile_compression: NONE, LZW, ZSTD, JPEG or J2K.
        region_size: Approximate height of a region in pixels.
        roi: Region of interest.
        nodata: Value of pixels without data, in place of the image's own.
        alpha: What an alpha band is: the mask of pixels with data, or a band as any other.
        read_role: IAM role for reading the image.
        bands: Bands that the model gets.
        scale: How values are scaled.
        resolution: Metres a pixel at which tiles are read and sent.
        fill: What pixels without data hold in a tile.
        transform: Of an array.
        crs: Of an array.
        raster: What the model's pixels hold.
        class_names: Name of each class number.
        blend: How overlapping tiles make one raster.
        augment: Further views of each tile that the model is asked for.
        scores: Data type of the probabilities of every class.
        polygons: Whether to publish the outlines of the classes too.
        min_area: Pixels that a polygon has at least.

    Raises:
        SwathError: An argument has an invalid value, or the image cannot be processed.
    """
    from deployments.python import call, keywords
    from deployments.run.model import ModelOptions

    with keywords.naming_keywords():
        tiling = keywords.tiling_options(
            tile_size=tile_size,
            overlap=overlap,
            tile_format=tile_format,
            tile_compression=tile_compression,
            region_size=region_size,
            roi=roi,
            nodata=nodata,
            alpha=alpha,
            read_role=read_role,
            bands=bands,
            scale=scale,
            resolution=resolution,
            fill=fill,
        )
        output = keywords.raster_options(
            raster,
            class_names,
            blend=blend,
            augment=augment,
            scores=scores,
            polygons=polygons,
            **keywords.numbers(min_area=min_area),
        )
        named = None if model is None else str(model)
        chosen = ModelOptions.if_any(named, type, keywords.parameter_texts(parameters))
        return call.estimate(image, tiling, chosen, output, transform=transform, crs=crs)
