"""The files of a raster: the tags of its GeoTIFFs, and what other tools read beside them."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from tasks.imagery import Image, gdal_environment, geotags_of
from tasks.publish.class_table import class_table
from tasks.publish.colours import colours
from tasks.publish.formats import CLASSES, STYLE
from tasks.publish.provenance import Provenance
from tasks.publish.qgis_style import qgis_style
from tasks.raster import BLOCK, Layer, Raster, predictor
from tasks.request import RasterOutput
from tasks.storage.conditional import Pieces


def raster_files(image: Image, raster: Raster, provenance: Provenance) -> dict[str, Pieces]:
    """Gives the bytes of each file of a raster, by its kind in `FILE_ENDINGS`.

    Args:
        image: The image, whose georeference the raster has.
        raster: The raster.
        provenance: The origin of the results.
    """
    files: dict[str, Pieces] = {
        layer.name: partial(raster.cog, layer, template(image, raster, layer, provenance))
        for layer in raster.layers
    }
    if raster.output.class_names:
        table = class_table(raster.output, colours(raster.output))
        files[CLASSES] = lambda: iter([table])
    style = qgis_style(raster)
    if style:
        files[STYLE] = lambda: iter([style])
    return files


def template(image: Image, raster: Raster, layer: Layer, provenance: Provenance) -> bytes:
    """A BigTIFF with all tags of a layer, and no pixel.

    Args:
        image: The image, whose georeference the raster has.
        raster: The raster.
        layer: One of its layers.
        provenance: The origin of the results.
    """
    width, height = raster.size
    options: dict[str, Any] = {
        "count": len(layer.bands), "width": width, "height": height, "dtype": layer.dtype.name,
        "nodata": layer.nodata, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK,
        "compress": "deflate", "predictor": predictor(layer), "interleave": "pixel",
        "bigtiff": "yes", "sparse_ok": True,
    }  # fmt: skip
    with gdal_environment(), MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="GTiff", **options, **geotags_of(image)) as dataset:
            dataset.descriptions = layer.bands
            dataset.update_tags(swath=provenance.json_bytes.decode())
            if layer.scale != 1.0:
                dataset.scales = [layer.scale] * len(layer.bands)
            if layer.unit:
                dataset.units = [layer.unit] * len(layer.bands)
            if layer.categorical:
                dataset.update_tags(1, **_names(raster.output))
                dataset.write_colormap(1, colours(raster.output))
            else:
                dataset.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * (
                    len(layer.bands) - 1
                )
            _write_statistics(dataset, raster, layer)
        return bytes(memory.read())


def _names(output: RasterOutput) -> dict[str, str]:
    return {f"CLASS_{number}": name for number, name in output.class_names.items()}


def _write_statistics(dataset: Any, raster: Raster, layer: Layer) -> None:  # noqa: ANN401
    found = raster.statistics[layer.name]
    if not found.count:
        return
    percent = 100 * found.count / (raster.size[0] * raster.size[1])
    for band in range(len(layer.bands)):
        values = {
            "MINIMUM": found.low[band], "MAXIMUM": found.high[band], "MEAN": found.mean[band],
            "STDDEV": found.deviation[band], "VALID_PERCENT": np.round(percent, 4),
        }  # fmt: skip
        tags = {f"STATISTICS_{name}": f"{value:.12g}" for name, value in values.items()}
        dataset.update_tags(band + 1, **tags)
