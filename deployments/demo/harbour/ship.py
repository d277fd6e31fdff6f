"""A ship seen from above: its outline and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deployments.demo.harbour.paint import Colour, Paint, Patch, Points, Wake

HULL = np.array(
    [(-0.5, -0.4), (-0.47, -0.5), (0.2, -0.5), (0.36, -0.37), (0.46, -0.14), (0.5, 0.0)]
)  # starboard side, of length and beam; the bow points to +x
WHITE: Colour = (238.0, 240.0, 238.0)
BOXES: list[Colour] = [
    (186, 74, 58), (72, 112, 170), (92, 148, 108), (206, 160, 72), (206, 204, 198), (150, 96, 60),
]  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of ship.

    Attributes:
        name: Its class.
        lengths: Shortest and longest length in pixels.
        slender: Length divided by beam.
        rail: Colour of the hull's edge.
        deck: Colour inside the edge.
    """

    name: str
    lengths: tuple[float, float]
    slender: float
    rail: Colour
    deck: Colour


KINDS = (
    Kind("container", (80, 120), 6.6, (176, 180, 184), (138, 132, 126)),
    Kind("tanker", (70, 120), 6.0, (190, 150, 138), (160, 92, 76)),
    Kind("bulk", (60, 110), 6.2, (178, 184, 176), (136, 146, 132)),
    Kind("ferry", (50, 100), 5.2, WHITE, (214, 218, 216)),
    Kind("trawler", (18, 36), 3.6, (198, 204, 210), (176, 150, 116)),
    Kind("boat", (8, 17), 2.5, WHITE, (224, 220, 208)),
)


@dataclass(frozen=True)
class Ship:
    """A ship at a position.

    Attributes:
        kind: The kind of ship.
        centre: x, y of its middle in full-image pixels.
        heading: Direction of its bow in radians, clockwise from +x as seen on the image.
        length: Length in pixels.
        wake: Length of its wake in pixels; 0 for a ship that does not move.
        paintwork: Seed of its random details.
    """

    kind: Kind
    centre: tuple[float, float]
    heading: float
    length: float
    wake: float = 0.0
    paintwork: int = 0

    @property
    def beam(self) -> float:
        """Width in pixels."""
        return max(self.length / self.kind.slender, 4.0)

    @cached_property
    def outline(self) -> Points:
        """Outline of the hull (11, 2) in full-image pixels."""
        return self._at(np.concatenate([HULL, HULL[-2::-1] * (1, -1)]))

    def layers(self) -> list[Paint]:
        """The shapes to paint, the lowest first."""
        height = 1.0 + 0.035 * self.length
        shade = Patch(self.outline + height * 0.7, (8.0, 18.0, 26.0), opacity=0.5, softness=2)
        cx, cy = self._at(np.array([(-0.47, 0.0)]))[0]
        wake = [Wake((cx, cy), self.heading, self.beam, self.wake)] if self.wake else []
        middle = np.array(self.centre)
        inner = middle + (self.outline - middle) * (1 - 2.2 / self.beam)
        deck = [Patch(inner, self.kind.deck)] if self.beam > 5 else []
        return [shade, *wake, Patch(self.outline, self.kind.rail), *deck, *self._details()]

    def _details(self) -> list[Paint]:
        """The bridge, hatches, containers or pipes of this kind of ship."""
        random = np.random.default_rng(self.paintwork)
        match self.kind.name:
            case "container":
                bays = np.linspace(-0.30, 0.30, max(4, int(self.length / 9)))
                rows = np.linspace(-0.34, 0.34, 5)
                width = 0.8 * (bays[1] - bays[0]) / 2
                stacks = [
                    self._patch(bay - width, row - 0.07, bay + width, row + 0.07, BOXES[pick])
                    for bay in bays
                    for row, pick in zip(rows, random.integers(len(BOXES), size=5), strict=True)
                ]
                return [*stacks, *self._bridge(-0.44, -0.36, 0.42)]
            case "tanker":
                pipe = self._patch(-0.28, -0.03, 0.38, 0.03, (206, 196, 180))
                manifold = self._patch(0.0, -0.4, 0.02, 0.4, (206, 196, 180))
                tanks = [
                    self._patch(x, side - 0.13, x + 0.07, side + 0.13, (142, 80, 66))
                    for x in np.linspace(-0.25, 0.25, 5)
                    for side in (-0.24, 0.24)
                ]
                return [*tanks, pipe, manifold, *self._bridge(-0.45, -0.33, 0.44)]
            case "bulk":
                hatches = [
                    self._patch(x, -0.3, x + 0.085, 0.3, (192, 176, 150))
                    for x in np.linspace(-0.27, 0.28, 5)
                ]
                return [*hatches, *self._bridge(-0.45, -0.35, 0.42)]
            case "ferry":
                sun = self._patch(-0.36, -0.3, 0.24, 0.3, (196, 204, 206))
                funnel = self._patch(-0.2, -0.12, -0.1, 0.12, (190, 88, 60))
                boats = [
                    self._patch(x, side - 0.04, x + 0.06, side + 0.04, (222, 130, 60))
                    for x in np.linspace(-0.25, 0.15, 4)
                    for side in (-0.4, 0.4)
                ]
                return [sun, *boats, funnel, *self._bridge(0.14, 0.22, 0.46)]
            case "trawler":
                gear = self._patch(-0.36, -0.22, -0.1, 0.22, (122, 112, 104))
                return [gear, *self._bridge(0.04, 0.22, 0.34)]
            case _:
                return [self._patch(-0.3, -0.26, -0.05, 0.26, (170, 140, 104))]

    def _bridge(self, x: float, x_end: float, side: float) -> list[Paint]:
        """A white superstructure and its shadow."""
        shade = self._patch(x + 0.02, -side, x_end + 0.035, side, (52, 54, 58), 0.55)
        return [shade, self._patch(x, -side, x_end, side, WHITE)]

    def _patch(  # noqa: PLR0917 - four sides and a colour
        self, x: float, y: float, x_end: float, y_end: float, colour: Colour, opacity: float = 1.0
    ) -> Patch:
        """A rectangle on the ship, in shares of length and beam."""
        corners = np.array([(x, y), (x_end, y), (x_end, y_end), (x, y_end)])
        return Patch(self._at(corners), colour, opacity)

    def _at(self, shares: Points) -> Points:
        """Convert points (n, 2) in shares of length and beam to full-image pixels."""
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        turned = (shares * (self.length, self.beam)) @ np.array([[cos, sin], [-sin, cos]])
        return np.asarray(turned + np.array(self.centre))
