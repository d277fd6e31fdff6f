"""Buildings: houses along streets, and sheds and containers on the quays."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from deployments.demo.harbour.frame import ALONG, ORIGIN, SEAWARD
from deployments.demo.harbour.paint import Colour

ROOFS: list[Colour] = [
    (150, 96, 76),
    (136, 88, 72),
    (118, 116, 114),
    (130, 122, 112),
    (110, 100, 90),
]
CONTAINERS: list[Colour] = [
    (150, 66, 52),
    (60, 92, 138),
    (76, 118, 92),
    (172, 128, 62),
    (150, 150, 146),
]
SHED: Colour = (158, 164, 168)
SHADOW: Colour = (74, 78, 70)

Shape: TypeAlias = BaseGeometry | dict[str, Any]
Area: TypeAlias = tuple[Shape, Colour]


def town(random: np.random.Generator, size: int, inland: BaseGeometry) -> list[Area]:
    """Streets of houses on the land, each with its shadow; fewer ones far from the harbour."""
    layers: list[Area] = []
    reach = np.array([0.62, 0.42]) * size
    for u in np.arange(-reach[0], reach[0], 62):
        for v in np.arange(-reach[1], 0.12 * size, 46):
            built = (
                1.15 - abs(v) / (0.36 * size) + 0.35 * np.sin(u / size * 21) * np.cos(v / size * 27)
            )
            if random.uniform() > built:
                continue
            for lot in range(2):
                middle = (
                    size * ORIGIN + (u + 27 * lot) * ALONG + (v + random.uniform(-3, 3)) * SEAWARD
                )
                sides = random.uniform((12, 14), (23, 32))
                if shapely.contains_xy(inland, *middle):
                    roof = ROOFS[random.integers(len(ROOFS))]
                    layers += _building(middle, sides, roof, random.uniform(2, 5))
    return layers


def _building(
    middle: NDArray[np.float64], sides: NDArray[np.float64], roof: Colour, height: float
) -> list[Area]:
    """A house in the harbour's frame: shadow, sunlit half of the roof, the other half."""
    across, along = ALONG * sides[0] / 2, SEAWARD * sides[1] / 2
    corners = np.array([-across - along, across - along, across + along, -across + along]) + middle
    half = np.array([-across - along, across - along, across, -across]) + middle
    dim = (roof[0] * 0.84, roof[1] * 0.84, roof[2] * 0.84)
    return [
        (_ring(corners + height), SHADOW),
        (_ring(corners), roof),
        (_ring(half), dim),
    ]


def _ring(corners: NDArray[np.float64]) -> Shape:
    """A polygon as GeoJSON: for tens of thousands of them, faster than shapely's polygons."""
    return {"type": "Polygon", "coordinates": [[*corners.tolist(), corners[0].tolist()]]}


def yards(random: np.random.Generator, size: int, free: BaseGeometry) -> list[Area]:
    """Container stacks and sheds on the quays."""
    layers: list[Area] = []
    shapely.prepare(free)
    for u in np.arange(-0.2 * size, 0.3 * size, 92):
        for v in np.arange(-0.055 * size, 0.15 * size, 30):
            middle = size * ORIGIN + u * ALONG + v * SEAWARD
            ends = np.array([middle - 40 * ALONG, middle + 40 * ALONG])
            if not free.contains(shapely.MultiPoint(ends)):
                continue
            if (u // 368 + v // 150) % 3 == 0:
                layers += _building(middle, np.array([78.0, 23.0]), SHED, 4)
                continue
            for row in range(-2, 3):
                start = middle + (row * 4.4) * SEAWARD - 38 * ALONG
                layers += _stack(random, start)
    return layers


def _stack(random: np.random.Generator, start: NDArray[np.float64]) -> list[Area]:
    """A row of containers with gaps."""
    boxes: list[Area] = []
    for slot in range(6):
        if random.uniform() < 0.82:
            corner = start + slot * 12.8 * ALONG
            outline = corner + np.array(
                [0 * ALONG, 12 * ALONG, 12 * ALONG + 3.6 * SEAWARD, 3.6 * SEAWARD]
            )
            boxes.append((_ring(outline), CONTAINERS[random.integers(len(CONTAINERS))]))
    return boxes
