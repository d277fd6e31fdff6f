"""Features of images around a pole and over the antimeridian are right by RFC 7946."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import Affine

from tasks.imagery import Georeference
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.imagery.georeference.rpc import RpcGeoreference
from tasks.imagery.georeference.spline import SplineGeoreference
from tasks.publish import geolocate
from tasks.results.detections import SCHEMA
from tests.examples import examples

SIZE = 1000  # pixels of each image, whose middle is on the pole or the antimeridian


def projected(epsg: int, x: float, y: float, metres: float, angle: float = 0) -> Georeference:
    """Square pixels of an image whose middle is x, y."""
    turned = Affine.translation(x, y) @ Affine.rotation(angle) @ Affine.scale(metres, -metres)
    corner = turned @ Affine.translation(-SIZE / 2, -SIZE / 2)
    return AffineGeoreference(corner, f"EPSG:{epsg}", (SIZE, SIZE))


def utm(epsg: int, latitude: float) -> Georeference:
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(180, latitude)
    return projected(epsg, x, y, 30)


def control(latitude: float, metres: float) -> Georeference:
    """Ground control points of square pixels around a place on the antimeridian."""
    local = f"+proj=aeqd +lat_0={latitude} +lon_0=180 +datum=WGS84"
    to_world = Transformer.from_crs(local, 4326, always_xy=True)
    points = []
    for row in range(0, SIZE + 1, 125):
        for column in range(0, SIZE + 1, 125):
            x, y = to_world.transform(
                (column - SIZE / 2) * metres + 3 * np.sin(row), (SIZE / 2 - row) * metres
            )
            points.append(GroundControlPoint(row=row, col=column, x=x, y=y))
    return SplineGeoreference(points, "EPSG:4326")


def rational() -> Georeference:
    half = SIZE / 2
    scales = {"height_scale": 500.0, "lat_scale": 0.05, "long_scale": 0.05, "line_scale": half}
    offsets = {"height_off": 10.0, "lat_off": -17.0, "long_off": 180.0, "line_off": half - 0.5}
    ones = [1.0] + [0.0] * 19
    return RpcGeoreference(
        RPC(
            **scales,
            **offsets,
            samp_off=half - 0.5,
            samp_scale=half,
            line_num_coeff=[0.0, 0.01, -1.0, 0.02] + [0.0] * 16,
            line_den_coeff=ones,
            samp_num_coeff=[0.0, 1.0, 0.02, 0.01] + [0.0] * 16,
            samp_den_coeff=ones,
        )
    )


IMAGES: dict[str, Callable[[], Georeference]] = {
    "north pole, 100 m": lambda: projected(3413, 0, 0, 100),
    "north pole, 2 km": lambda: projected(3995, 0, 0, 2000),
    "north pole, 1 m, turned": lambda: projected(32661, 2e6, 2e6, 1, angle=33),
    "south pole, 30 m": lambda: projected(3031, 0, 0, 30),
    "UTM 1, Fiji": lambda: utm(32701, -17),
    "UTM 60, Chukotka": lambda: utm(32660, 68),
    "degrees, from 179 to 181": lambda: AffineGeoreference(
        Affine(0.002, 0, 179, 0, -0.002, 1), "EPSG:4326", (SIZE, SIZE)
    ),
    "degrees, from -181 to -179": lambda: AffineGeoreference(
        Affine(0.002, 0, -181, 0, -0.002, 1), "EPSG:4326", (SIZE, SIZE)
    ),
    "degrees, the world": lambda: AffineGeoreference(
        Affine(0.36, 0, -180, 0, -0.18, 90), "EPSG:4326", (SIZE, SIZE)
    ),
    "GCPs, Fiji": lambda: control(-17, 10),
    "GCPs, beside the pole": lambda: control(89.2, 40),
    "GCPs, around the pole": lambda: control(89.95, 40),
    "RPC, Fiji": rational,
}
MADE: dict[str, Georeference] = {}


def made(name: str) -> Georeference:
    return MADE.setdefault(name, IMAGES[name]())


def detections(outlines: list[shapely.Geometry]) -> pa.Table:
    bounds = [outline.bounds for outline in outlines]
    columns = {
        name: [box[at] for box in bounds]
        for at, name in enumerate(("x_min", "y_min", "x_max", "y_max"))
    }
    count = len(outlines)
    return pa.table(
        columns
        | {
            "tile": [0] * count,
            "ordinal": list(range(count)),
            "score": [0.5] * count,
            "class_name": ["ice"] * count,
            "geometry": [outline.wkb for outline in outlines],
            "properties": ["{}"] * count,
        },
        schema=SCHEMA,
    )


def turns(ring: NDArray[np.float64]) -> bool:
    """Whether a ring is on the map: and has no edge that leaps over the antimeridian."""
    longitudes, latitudes = ring[:, 0], ring[:, 1]
    on_map = (np.abs(longitudes) <= 180).all() and (np.abs(latitudes) <= 90).all()
    leaps = (np.abs(np.diff(longitudes)) > 180) & (np.abs(latitudes[1:]) < 89.9999999)
    return bool(on_map and not leaps.any())


def check_by_rfc_7946(geometry: shapely.Geometry, bbox: NDArray[np.float64]) -> None:
    assert geometry.is_valid
    polygons = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
    assert polygons
    for polygon in polygons:
        assert polygon.exterior.is_ccw
        assert not any(hole.is_ccw for hole in polygon.interiors)
        assert all(turns(shapely.get_coordinates(ring)) for ring in shapely.get_rings(polygon))
    west, south, east, north = bbox
    assert -180 <= west <= 180
    assert -180 <= east <= 180
    box = (
        shapely.box(west, south, east, north)
        if west <= east
        else shapely.union(
            shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)
        )
    )
    assert shapely.buffer(box, 1e-9).covers(geometry)


def check_places(
    outline: shapely.Geometry, geometry: shapely.Geometry, georeference: Georeference
) -> None:
    """What is in the outline in pixels is in the geometry on the map, and nothing else."""
    west, south, east, north = outline.bounds
    margin = (east - west) * 0.3
    places = np.random.default_rng(0).uniform(
        [west - margin, south - margin], [east + margin, north + margin], (400, 2)
    )
    points = shapely.points(places)
    clear = shapely.distance(shapely.boundary(outline), points) > 0.03 * (east - west)
    world = georeference.to_world(places[clear])
    on_map = np.abs(world[:, 1]) <= 90
    inside = shapely.intersects(geometry, shapely.points(world[on_map]))
    np.testing.assert_array_equal(inside, shapely.covers(outline, points[clear][on_map]))


@pytest.mark.parametrize("name", IMAGES)
@examples(0.4)
@given(
    x=st.floats(100, 700), y=st.floats(100, 700), side=st.floats(1, 200), corners=st.integers(4, 9)
)
@example(x=400, y=400, side=200, corners=4)
@example(x=500, y=500, side=100, corners=4)  # a corner on the pole
@example(x=500, y=450, side=100, corners=4)  # an edge through it
@example(x=450, y=500, side=20, corners=4)
def test_what_a_model_outlines_is_outlined_on_the_map(
    name: str, x: float, y: float, side: float, corners: int
) -> None:
    georeference = made(name)
    box = shapely.box(x, y, x + side, y + side)
    outlines = [
        box,
        shapely.Point(x + side / 2, y + side / 2).buffer(side / 2, quad_segs=corners),
        box.difference(shapely.box(x + side / 4, y + side / 4, x + side, y + 3 * side / 4)),  # a C
        box.difference(shapely.affinity.scale(box, 0.4, 0.4)),  # a frame
    ]
    features = geolocate(detections(outlines), georeference)
    for outline, geometry, bbox in zip(outlines, features.geometry, features.bboxes, strict=True):
        check_by_rfc_7946(geometry, bbox)
        check_places(outline, geometry, georeference)
