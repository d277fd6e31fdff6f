"""Paints on strips of an image: anti-aliased polygons and wakes.

All coordinates are pixels of the full image, so the value of a pixel does not depend on the strip
in which it is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Points (n, 2) x, y in full-image pixels, or a single one (2,)."""

Canvas = NDArray[np.float32]
"""Grey levels (3, rows, columns), 0 to 255."""

Opacity = NDArray[np.float32]
"""Opacity (rows, columns), 0 to 1."""

Colour = tuple[float, float, float]
"""Red, green, blue, 0 to 255."""


class Paint(Protocol):
    """A shape that can be painted on a strip."""

    @property
    def span(self) -> tuple[float, float, float, float]:
        """Bounding box of the painted pixels: x_min, y_min, x_max, y_max in full-image pixels."""

    def opacity_at(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> Opacity:
        """Opacity, 0 to 1, at pixel centres x (1, w) and y (h, 1): an array (h, w)."""

    @property
    def colour(self) -> Colour:
        """Red, green, blue, 0 to 255."""


@dataclass(frozen=True)
class Patch:
    """A convex polygon of one colour, its edges anti-aliased.

    Attributes:
        outline: (k, 2) corners in order, clockwise or counter-clockwise, in full-image pixels.
        colour: Red, green, blue, 0 to 255.
        opacity: Opacity inside, 0 to 1.
        softness: Width in pixels of the blurred edge.
    """

    outline: Points
    colour: Colour
    opacity: float = 1.0
    softness: float = 1.0

    @cached_property
    def span(self) -> tuple[float, float, float, float]:
        """The bounding box of the polygon with its blurred edge."""
        low, high = self.outline.min(axis=0), self.outline.max(axis=0)
        edge = self.softness
        return (low[0] - edge, low[1] - edge, high[0] + edge, high[1] + edge)

    def opacity_at(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> Opacity:
        """Opacity from the distance to the nearest edge; not exact at corners."""
        edges = np.roll(self.outline, -1, axis=0) - self.outline
        centre = self.outline.mean(axis=0)
        inside: Opacity = np.full((y.shape[0], x.shape[1]), np.inf, dtype=np.float32)
        for corner, edge in zip(self.outline, edges, strict=True):
            normal = np.array([-edge[1], edge[0]]) / max(float(np.hypot(*edge)), 1e-9)
            normal *= 1 if normal @ (centre - corner) > 0 else -1
            step = x * np.float32(normal[0]) + y * np.float32(normal[1])
            np.minimum(inside, step - np.float32(normal @ corner), out=inside)
        cover: Opacity = np.clip(inside / np.float32(self.softness) + 0.5, 0, 1)
        return cover * np.float32(self.opacity)


@dataclass(frozen=True)
class Wake:
    """Foam behind a moving ship: a turbulent trail, and the two arms of Kelvin's wedge.

    Attributes:
        stern: x, y of the ship's stern, where the wake begins, in full-image pixels.
        course: The ship's heading in radians, clockwise from +x as seen on the image.
        beam: Width of the ship in pixels.
        length: Distance in pixels over which the wake fades.
        colour: Colour of the foam.
    """

    stern: tuple[float, float]
    course: float
    beam: float
    length: float
    colour: Colour = (150.0, 172.0, 176.0)

    @cached_property
    def span(self) -> tuple[float, float, float, float]:
        """The bounding box of the visible part."""
        (x, y), reach = self.stern, 3 * self.length
        end_x, end_y = x - reach * np.cos(self.course), y - reach * np.sin(self.course)
        side = 0.36 * reach + self.beam
        return (
            min(x, end_x) - side,
            min(y, end_y) - side,
            max(x, end_x) + side,
            max(y, end_y) + side,
        )

    def opacity_at(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> Opacity:
        """Opacity of the foam; the wedge opens at Kelvin's 19.5 degrees to either side."""
        cos, sin = np.float32(np.cos(self.course)), np.float32(np.sin(self.course))
        across_x, across_y = x - np.float32(self.stern[0]), y - np.float32(self.stern[1])
        astern = -(across_x * cos + across_y * sin)
        across = np.abs(across_y * cos - across_x * sin)
        trail = np.float32(self.beam) * (0.35 + 0.5 * np.sqrt(np.maximum(astern, 0) / self.length))
        core = np.exp(-astern / self.length - (across / trail) ** 2)
        arm = np.float32(self.beam) * 0.35 + astern * np.float32(0.03)
        arms = np.exp(
            -2 * astern / self.length - ((across - astern * np.float32(0.354)) / arm) ** 2
        )
        foam = np.where(astern > 0, 0.30 * core + 0.12 * arms, 0) * np.minimum(astern / 6, 1)
        return foam.astype(np.float32)


def paint(canvas: Canvas, top: int, layers: Sequence[Paint]) -> None:
    """Paint layers over a strip, in order.

    Args:
        canvas: (3, rows, columns), changed in place.
        top: Row of the full image at which the strip begins.
        layers: The shapes to paint; those outside the strip are skipped.
    """
    rows, columns = canvas.shape[1:]
    for layer in layers:
        x_min, y_min, x_max, y_max = layer.span
        left, right = max(0, int(x_min)), min(columns, int(x_max) + 1)
        first, last = max(top, int(y_min)), min(top + rows, int(y_max) + 1)
        if left >= right or first >= last:
            continue
        x = np.arange(left, right, dtype=np.float32)[None] + np.float32(0.5)
        y = np.arange(first, last, dtype=np.float32)[:, None] + np.float32(0.5)
        part = canvas[:, first - top : last - top, left:right]
        colour = np.array(layer.colour, np.float32)[:, None, None]
        part += (colour - part) * layer.opacity_at(x, y)
