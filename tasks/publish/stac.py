"""A STAC Item (1.1) of an image's results in one output: where, when, of what, by which model.

It names the checksums of the other files, so it is written after them. The Machine Learning Model
extension describes items that are models; its `mlm:name` is used here, and the extension is not
declared, as its schema would ask for the model's input and output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import shapely
from pydantic import BaseModel

from tasks.imagery import Image
from tasks.publish import antimeridian
from tasks.publish.covered_area import DECIMALS, covered_area
from tasks.publish.image_results import ImageResults, Origin
from tasks.publish.manifest import PublishedFile
from tasks.request import ImageProcessor
from tasks.request.locations import redact_url

STAC_VERSION = "1.1.0"
_EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("file/v2.1.0", "processing/v1.2.0")
]
_SHA2_256 = "1220"  # of a multihash: the function, and the length of the digest

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_MEDIA_TYPES = {
    "geojson": "application/geo+json",
    "geojsonl": "application/geo+json-seq",
    "parquet": "application/vnd.apache.parquet",
    "gpkg": "application/geopackage+sqlite3",
    "fgb": "application/vnd.flatgeobuf",
    "pmtiles": "application/vnd.pmtiles",
    "json": "application/json",
    "csv": "text/csv",
    "html": "text/html",
    "tif": _COG,
    "xml": "application/xml",
    "qml": "application/xml",
}
"""By the last ending of a file's name."""
_IMAGE_TYPES = {
    "GTiff": "image/tiff; application=geotiff",
    "NITF": "application/vnd.nitf",
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "JP2OpenJPEG": "image/jp2",
}
"""By GDAL's driver."""
_ROLES = {"coverage": "metadata", "classes": "metadata", "style": "style", "html": "overview"}
_TITLES = {"coverage": "Ledger of tiles", "html": "Page", "raster": "Raster", "scores": "Scores"}


def stac_item(
    results: ImageResults, files: Sequence[PublishedFile], stem: str, counts: Mapping[str, object]
) -> bytes:
    """The item of results in one output, as JSON.

    Args:
        results: The results.
        files: The other files, which lie beside the item.
        stem: Name of the files without their endings.
        counts: What the manifest says of the features.
    """
    told, origin = results.metadata.provenance, results.origin
    area = covered_area(results.ledger, results.georeference, origin and _roi(origin))
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": _EXTENSIONS,
        "id": stem if stem.endswith(told.job) else f"{stem}.{told.job}",
        "geometry": None if area is None else orjson.loads(shapely.to_geojson(area)),
        "properties": _properties(results, counts),
        "links": _links(results),
        "assets": {file.kind: _asset(file) for file in files},
    }
    if area is not None:
        item["bbox"] = [round(each, DECIMALS) for each in antimeridian.bounds(area)]
    return orjson.dumps(item, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _roi(origin: Origin) -> shapely.Geometry | None:
    wkt = origin.request.region_of_interest
    return None if wkt is None else shapely.from_wkt(wkt)


def _properties(results: ImageResults, counts: Mapping[str, object]) -> dict[str, Any]:
    told, acquired = results.metadata.provenance, results.metadata.acquired
    properties: dict[str, Any] = {"title": f"Results of job {told.job}", "created": told.time}
    if acquired is None:
        inferred = {"start_datetime": told.time, "end_datetime": told.time}
        properties |= {"datetime": None} | inferred
    else:
        time = acquired.astimezone(UTC).isoformat().replace("+00:00", "Z")
        properties |= {"datetime": time}
    properties |= {
        "processing:software": {"Swath": told.version},
        "processing:datetime": told.time,
        "processing:lineage": "A model was run over tiles of the image, and what several tiles "
        "found was merged.",
        "swath:job": told.job,
        "swath:status": told.status,
        "swath:covered": told.covered,
        "swath:tiles": told.tiles,
        "swath:image_etag": told.etag,
        "swath:request": told.request,
    }
    properties |= {
        f"swath:{name}": count.model_dump() if isinstance(count, BaseModel) else count
        for name, count in counts.items()
        if count is not None
    }
    if results.origin:
        model = results.origin.request.image_processor
        version = results.origin.model_version
        properties["mlm:name"] = model.short_name
        properties["swath:model"] = {"type": str(model.type), "name": redact_url(model.name)}
        if version:
            properties["swath:model"]["version"] = version
            properties["processing:software"][model.short_name] = version
    return properties


def _links(results: ImageResults) -> list[dict[str, str]]:
    """Links to what the results are made from: the image, and the model's description."""
    image, origin = results.metadata.provenance.image, results.origin
    link = {"rel": "derived_from", "href": _href(image), "title": "Image"}
    if origin is None:
        return [link]
    links = [link | _media_type(origin.image)]
    if item := origin.request.image_stac_items.get(image):
        links[0]["rel"] = "via"
        known = {"rel": "derived_from", "href": _href(item), "type": "application/geo+json"}
        links.insert(0, known | {"title": "STAC Item of the image"})
    model = origin.request.image_processor
    if described := _description(origin, model):
        link = {"rel": "derived_from", "href": _href(described), "type": "application/json"}
        links.append(link | {"title": "Description of the model", "mlm:name": model.short_name})
    return links


def _media_type(image: Image) -> dict[str, str]:
    known = _IMAGE_TYPES.get(image.driver)
    return {"type": known} if known else {}


def _description(origin: Origin, model: ImageProcessor) -> str | None:
    """Where the model's description is, if the request names one."""
    if model.type not in {"ONNX", "OIP_ENDPOINT"}:  # of others it is a header or an attribute
        return None
    named = origin.request.image_processor_parameters.get("description")
    return named if isinstance(named, str) else None


def _href(uri: str) -> str:
    """A path or a URL as a URI, in which a space, `#`, `?` or `%` of a name is escaped."""
    if uri.startswith("/"):
        return Path(uri).as_uri()
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{quote(rest)}" if rest else quote(uri)


def _asset(file: PublishedFile) -> dict[str, Any]:
    # what is in pixels is no place on the Earth, as readers of GeoJSON would take it for
    ending = "json" if file.kind.startswith("pixels.") else file.name.rpartition(".")[2]
    return {
        "href": f"./{quote(file.name)}",
        "type": _MEDIA_TYPES.get(ending, "application/octet-stream"),
        "title": _TITLES.get(file.kind, file.kind),
        "roles": [_ROLES.get(file.kind, "data")],
        "file:size": file.bytes,
        "file:checksum": _SHA2_256 + file.sha256,
    }
