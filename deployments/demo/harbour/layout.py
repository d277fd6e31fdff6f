"""The layout of the harbour: water, land, quays and nodata."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from deployments.demo.harbour.frame import to_pixels
from deployments.demo.harbour.paint import Colour, Points
from deployments.demo.harbour.town import Area, town, yards

TILT = np.deg2rad(10)  # of the image's footprint inside its raster
GREEN: Colour = (104, 114, 84)
ROAD: Colour = (124, 122, 116)


@dataclass(frozen=True)
class Harbour:
    """A harbour, in full-image pixels.

    Attributes:
        size: Pixels of the image's side.
        footprint: The area with data.
        land: All land, with quays and breakwaters.
        ground: Areas on the land with their colours, in painting order. The scene varies the
            colour `GREEN` of open country.
        berths: Quay lines (2, 2), directed so that the water is on their left.
        pontoons: Lines (2, 2) of the marina, with boats on both sides.
    """

    size: int
    footprint: Polygon
    land: BaseGeometry
    ground: tuple[Area, ...]
    berths: tuple[Points, ...]
    pontoons: tuple[Points, ...]


def build(random: np.random.Generator, size: int) -> Harbour:
    """The harbour for an image of `size` pixels a side."""
    natural = _coast(random, size)
    terminal = _block(size, -0.20, -0.06, 0.30, 0.055)
    basins = shapely.union_all(
        [
            _block(size, u, v, u + 0.042, 0.06)
            for u, v in ((-0.145, 0.0), (-0.03, -0.012), (0.11, 0.0))
        ]
    )
    piers = [(0.185, 0.15), (0.24, 0.13)]
    quays = shapely.union_all(
        [terminal.difference(basins)] + [_block(size, u, 0.05, u + 0.018, v) for u, v in piers]
    )
    arms = [
        [(-0.33, -0.03), (-0.32, 0.12), (-0.25, 0.20), (-0.06, 0.245)],
        [(0.42, -0.03), (0.42, 0.13), (0.36, 0.20), (0.20, 0.245), (0.12, 0.245)],
    ]
    breakwaters = shapely.union_all(
        [
            _curve([to_pixels(size, *corner) for corner in arm]).buffer(max(6.0, size / 680))
            for arm in arms
        ]
    )
    shore = natural.difference(basins)
    land = shapely.union_all([shore, quays, breakwaters])
    pontoons = _pontoons(size)
    walkway = LineString([pontoons[0][0], to_pixels(size, -0.199, 0.035)])
    decks = shapely.union_all(
        [walkway.buffer(3.5), *(LineString(line).buffer(2.2) for line in pontoons)]
    )
    ground = (
        (breakwaters, (124.0, 118.0, 108.0)),
        (shore, (196.0, 182.0, 148.0)),
        (shore.buffer(-max(5.0, size / 800)), GREEN),
        (shore.intersection(shapely.union_all(_roads(size))), ROAD),
        (quays, (158.0, 154.0, 146.0)),
        (quays.buffer(-10).difference(quays.buffer(-16)), (112.0, 110.0, 108.0)),
        (decks, (150.0, 142.0, 126.0)),
    )
    inland = shore.difference(shapely.union_all([terminal.buffer(12), *_roads(size)])).buffer(-22)
    shapely.prepare(inland)
    return Harbour(
        size=size,
        footprint=_footprint(random, size),
        land=shapely.union_all([land, decks]),
        ground=(
            *ground,
            *town(random, size, inland),
            *yards(random, size, quays.buffer(-22)),
        ),
        berths=_berths(size, piers),
        pontoons=tuple(pontoons),
    )


def _block(size: int, u: float, v: float, u_end: float, v_end: float) -> Polygon:
    """A rectangle in the harbour's frame."""
    corners = [(u, v), (u_end, v), (u_end, v_end), (u, v_end)]
    return Polygon([to_pixels(size, *corner) for corner in corners])


def _curve(corners: list[NDArray[np.float64]]) -> LineString:
    """A line with its corners rounded off (Chaikin's corner cutting)."""
    line = np.array(corners)
    for _ in range(4):
        cut = np.stack([line[:-1] * 0.75 + line[1:] * 0.25, line[:-1] * 0.25 + line[1:] * 0.75], 1)
        line = np.concatenate([line[:1], cut.reshape(-1, 2), line[-1:]])
    return LineString(line)


def _rough(random: np.random.Generator, count: int, octaves: int) -> NDArray[np.float64]:
    """Fractal noise along a line of `count` points, about -1 to 1."""
    positions = np.linspace(0, 1, count)
    total = np.zeros(count)
    for octave in range(octaves):
        knots = 4 * 2**octave
        total += np.interp(positions, np.linspace(0, 1, knots), random.normal(0, 0.6, knots)) / (
            1.7**octave
        )
    return total


def _coast(random: np.random.Generator, size: int) -> BaseGeometry:
    """The natural land: everything landward of a fractal shore line."""
    u = np.linspace(-1.2, 1.2, 900)
    headland = 0.055 * np.exp(-(((u + 0.43) / 0.07) ** 2)) + 0.07 * np.exp(
        -(((u - 0.52) / 0.08) ** 2)
    )
    v = 0.004 + 0.018 * _rough(random, len(u), 8) + headland
    shore = [to_pixels(size, *corner) for corner in zip(u, v, strict=True)]
    return Polygon([*shore, to_pixels(size, 1.2, -1.5), to_pixels(size, -1.2, -1.5)]).buffer(0)


def _footprint(random: np.random.Generator, size: int) -> Polygon:
    """The area with data: a tilted square with ragged edges, as in an ortho-rectified image."""
    side = 0.985 * size / (np.cos(TILT) + np.sin(TILT))
    steps = np.linspace(-0.5, 0.5, 60)
    ragged = [np.stack([steps, np.full(60, -0.5)], 1)]
    ragged[0][1:-1, 1] += 0.003 * _rough(random, 58, 4)
    turn = np.array([[0, 1], [-1, 0]])
    for _ in range(3):
        ragged.append(ragged[-1] @ turn)
    tilt = np.array([[np.cos(TILT), np.sin(TILT)], [-np.sin(TILT), np.cos(TILT)]])
    return Polygon(size / 2 + side * np.concatenate(ragged) @ tilt).buffer(0)


def _pontoons(size: int) -> list[Points]:
    """The marina's pontoons, 76 px apart."""
    spacing = 76 / size
    starts = np.arange(-0.305, -0.212, spacing)
    return [np.array([to_pixels(size, u, 0.035), to_pixels(size, u, 0.10)]) for u in starts]


def _roads(size: int) -> list[BaseGeometry]:
    """Roads behind the harbour, and out of the town."""
    routes = [
        [(-1, -0.03), (-0.36, -0.055), (-0.22, -0.085), (0.32, -0.085), (0.42, -0.05), (1, -0.04)],
        [(-0.1, -0.085), (-0.16, -0.2), (-0.05, -0.35), (-0.12, -0.7)],
        [(0.2, -0.085), (0.22, -0.24), (0.34, -0.33), (0.3, -0.7)],
        [(-0.8, -0.2), (-0.3, -0.17), (0.1, -0.22), (0.8, -0.16)],
    ]
    return [_curve([to_pixels(size, *corner) for corner in route]).buffer(7) for route in routes]


def _berths(size: int, piers: list[tuple[float, float]]) -> tuple[Points, ...]:
    """Quay lines along the front, in the basins and on both sides of the piers.

    They are directed so that the water is on their left.
    """
    front = [
        (-0.195, -0.147),
        (-0.101, -0.032),
        (0.014, 0.108),
        (0.154, 0.183),
        (0.205, 0.238),
        (0.26, 0.298),
    ]
    lines = [((u_end, 0.055), (u, 0.055)) for u, u_end in front]
    for u, v in ((-0.145, 0.0), (-0.03, -0.012), (0.11, 0.0)):
        lines += [((u, v + 0.004), (u, 0.052)), ((u + 0.042, 0.052), (u + 0.042, v + 0.004))]
    for u, v in piers:
        lines += [((u, v), (u, 0.062)), ((u + 0.018, 0.062), (u + 0.018, v))]
    return tuple(np.array([to_pixels(size, *start), to_pixels(size, *end)]) for start, end in lines)
