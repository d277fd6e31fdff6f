"""The region of interest of a command: WKT, or the polygons of a file in any reference system."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import RequestError

if TYPE_CHECKING:
    import shapely
    from pyproj import Transformer

_WKT = re.compile(r"\s*(MULTI)?POLYGON\b", re.IGNORECASE)
_GEOJSON = {".geojson", ".json"}
_WGS84 = "OGC:CRS84"
_MOST_DEGREES = 540.0  # of a longitude, half a turn beyond the antimeridian
_SEGMENTS = 64  # along the extent: edges that are straight on a map may bend in degrees


@dataclass(frozen=True)
class _Features:
    """The geometries of a file, None for a feature without one, and their reference system."""

    geometries: list[shapely.Geometry | None]
    crs: str | None


def region_of_interest(text: str) -> str:
    """The region of interest as WKT, in longitude and latitude (EPSG:4326).

    The features of a file are reprojected and united. A polygon across the antimeridian is cut
    there, as GeoJSON (RFC 7946) has it.

    Args:
        text: WKT, which is not checked here, or the path of a file: GeoJSON, or with pyogrio any
            vector file that GDAL reads.

    Raises:
        RequestError: There is no such file, or it has no valid polygons in a known system.
    """
    if _WKT.match(text):
        return text
    if not os.path.exists(text):  # noqa: PTH110 - False for a text too long for a path
        raise RequestError(
            f"--roi: {text[:80]!r} is neither WKT nor a file; give POLYGON ((…)) with longitude "
            "first, or the path of a GeoJSON, GeoPackage or Shapefile."
        )
    path = Path(text)
    features = _read_geojson(path) if path.suffix.lower() in _GEOJSON else _read_other(path)
    if features.crs is None:
        raise RequestError(
            f"--roi: {text} has no coordinate reference system; set it, for example with "
            "ogr2ogr -a_srs EPSG:32633."
        )
    return str(_united(_polygons(features.geometries, text), features.crs, text).wkt)


def _read_geojson(path: Path) -> _Features:
    """GeoJSON of any kind; its older member `crs` is followed."""
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        geometries = [shape(each) if each else None for each in _geojson_geometries(document)]
        crs = document.get("crs")
        named = crs["properties"]["name"] if crs else _WGS84
    except (
        *(OSError, ValueError, TypeError, LookupError, AttributeError),
        RecursionError,  # of lists within lists
        ShapelyError,  # of rings that are none
    ) as error:
        raise RequestError(f"--roi: {path} is not GeoJSON ({error}); correct it.") from error
    return _Features(geometries, str(named))


def _geojson_geometries(document: dict[str, Any]) -> Iterable[dict[str, Any] | None]:
    match document["type"]:
        case "FeatureCollection":
            return [feature["geometry"] for feature in document["features"]]
        case "Feature":
            return [document["geometry"]]
        case "GeometryCollection":
            return list(document["geometries"])
        case _:
            return [document]


def _read_other(path: Path) -> _Features:
    """The only layer with polygons of a vector file."""
    try:
        import pyogrio
        import shapely
    except ImportError as error:
        raise RequestError(
            f"--roi: reading {path} needs pyogrio; install it with pip install 'swath[python]', or "
            f"convert the file: ogr2ogr -t_srs EPSG:4326 roi.geojson {path}"
        ) from error
    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) != 1:
            raise RequestError(
                f"--roi: {path} has {len(layers)} layers with geometries "
                f"({', '.join(layers) or 'none'}); give a file with one: ogr2ogr roi.gpkg {path} "
                "LAYER"
            )
        meta, _, geometries, _ = pyogrio.raw.read(path, layer=layers[0], columns=[])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise RequestError(
            f"--roi: {path} is not a vector file that GDAL reads ({error}); give GeoJSON, "
            "GeoPackage or Shapefile."
        ) from error
    return _Features(list(shapely.from_wkb(geometries)), meta["crs"])


def _polygons(geometries: Iterable[shapely.Geometry | None], text: str) -> list[shapely.Geometry]:
    """The polygons of features, each checked.

    Raises:
        RequestError: A feature has another geometry or is invalid, or there is none.
    """
    import shapely

    polygons = []
    for number, geometry in enumerate(geometries, 1):
        if geometry is None or geometry.is_empty:
            continue
        if geometry.geom_type not in {"Polygon", "MultiPolygon"}:
            raise RequestError(
                f"--roi: feature {number} of {text} is a {geometry.geom_type}; give polygons only."
            )
        for part in shapely.get_parts(geometry):  # which may touch each other along a line
            if not part.is_valid:
                raise RequestError(
                    f"--roi: feature {number} of {text} is not a valid polygon: "
                    f"{shapely.is_valid_reason(part)}; correct it, for example with Fix geometries "
                    "in QGIS."
                )
            polygons.append(shapely.force_2d(part))
    if not polygons:
        raise RequestError(f"--roi: {text} has no polygon; give a file with one or more.")
    return polygons


def _united(polygons: list[shapely.Geometry], crs: str, text: str) -> shapely.Geometry:
    """The union of polygons in longitude and latitude, within ±180°."""
    import numpy as np
    import shapely
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    try:
        system = CRS.from_user_input(crs)
        to_degrees = Transformer.from_crs(system, _WGS84, always_xy=True)
    except ProjError as error:
        raise RequestError(
            f"--roi: the coordinate reference system of {text} is not known ({error!s:.200}); "
            "reproject it: ogr2ogr -t_srs EPSG:4326."
        ) from error
    if not (system.is_geographic or system.is_projected):
        raise RequestError(
            f"--roi: the coordinate reference system of {text}, {system.name}, is not that of a "
            "map; reproject it: ogr2ogr -t_srs EPSG:4326."
        )
    projected = not system.is_geographic
    area = shapely.union_all(polygons)
    if projected:
        west, south, east, north = area.bounds
        area = shapely.segmentize(area, max(east - west, north - south) / _SEGMENTS)
    parts = [_in_degrees(part, to_degrees, projected) for part in shapely.get_parts(area)]
    nowhere = RequestError(
        f"--roi: a part of {text} has no position in longitude and latitude, or is around a pole; "
        "check that its coordinates are in the reference system that it declares."
    )
    if not all(part is not None and part.is_valid for part in parts):
        raise nowhere
    globe = shapely.box(-180, -90, 180, 90)
    turned = [
        shapely.transform(part, lambda positions, turn=turn: positions + np.array([turn, 0]))
        for part in parts
        for turn in (-360, 0, 360)
    ]
    inside = shapely.get_parts(shapely.union_all(shapely.intersection(turned, globe)))
    # what ends at the antimeridian touches the globe's other edge, turned, along a line
    areas = [part for part in inside if part.geom_type == "Polygon"]
    if not areas:
        raise nowhere
    return shapely.union_all(areas)


def _in_degrees(
    part: shapely.Geometry, to_degrees: Transformer, projected: bool
) -> shapely.Geometry | None:
    """A polygon in longitude and latitude; None if a part has no position or it is around a pole.

    Across the antimeridian, longitudes of a projected polygon continue beyond ±180°.
    """
    import numpy as np
    import shapely
    from pyproj.enums import TransformDirection

    from tasks.imagery.georeference.transformers import wrap_near

    longitude, latitude = to_degrees.transform(*shapely.get_coordinates(part).T)
    if projected:
        poles = to_degrees.transform([0, 0], [90, -90], direction=TransformDirection.INVERSE)
        if shapely.intersects_xy(part, *poles).any():
            return None
        west, south, east, north = part.bounds
        centre, _ = to_degrees.transform((west + east) / 2, (south + north) / 2)
        longitude = wrap_near(longitude, centre)
    positions = np.stack([longitude, latitude], axis=1)
    known = (np.abs(positions) <= _MOST_DEGREES).all()  # which NaN is not
    return shapely.set_coordinates(part, positions) if known else None
