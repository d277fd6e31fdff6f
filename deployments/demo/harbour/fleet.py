"""Positions of the ships: at quays, in the marina, at anchor, under way, across tile edges."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import shapely
from shapely.geometry import Polygon

from deployments.demo.harbour.frame import ALONG, SEAWARD
from deployments.demo.harbour.layout import Harbour
from deployments.demo.harbour.paint import Points
from deployments.demo.harbour.ship import KINDS, Kind, Ship
from tasks.grid.tiles import positions

GAP = 4.0  # minimum pixels of water between two hulls, and between a hull and a quay
BOAT, TRAWLER = KINDS[5], KINDS[4]
LARGE = KINDS[:4]


@dataclass
class Fleet:
    """The ships of a harbour, none touching another or the land.

    Attributes:
        harbour: The harbour.
        random: Random generator for every choice.
        ships: The ships placed so far.
    """

    harbour: Harbour
    random: np.random.Generator
    ships: list[Ship] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare the geometry that every candidate is tested against."""
        self._water = self.harbour.footprint.buffer(-40).difference(
            self.harbour.land.buffer(GAP - 0.5)
        )
        shapely.prepare(self._water)
        self._hulls: list[Polygon] = []

    def add(self, ship: Ship, room: float = GAP) -> bool:
        """Place a ship if it has `room` pixels of free water around it; return whether it did."""
        hull = Polygon(ship.outline)
        if not self._water.contains(hull):
            return False
        near = hull.buffer(room - 0.1)
        if self._hulls and shapely.intersects(np.array(self._hulls), near).any():
            return False
        self.ships.append(ship)
        self._hulls.append(hull)
        return True

    def new(self, kind: Kind, x: float, y: float, heading: float, wake: float = 0.0) -> Ship:
        """A ship of a kind, with a random length."""
        length = self.random.uniform(*kind.lengths)
        seed = int(self.random.integers(2**31))
        return Ship(kind, (float(x), float(y)), float(heading), length, wake * length, seed)

    def pick(self, kinds: tuple[Kind, ...]) -> Kind:
        """One of these kinds, at random."""
        return kinds[self.random.integers(len(kinds))]


def populate(harbour: Harbour, random: np.random.Generator) -> list[Ship]:
    """The ships of a harbour, their number growing with its area."""
    fleet = Fleet(harbour, random)
    for start, end in harbour.berths:
        _moor(fleet, start, end)
    for start, end in harbour.pontoons:
        _berth_boats(fleet, start, end)
    area = (harbour.size / 8192) ** 2
    _straddle(fleet, round(60 * area) + 2)
    _scatter(fleet, round(50 * area) + 2, under_way=True)
    _scatter(fleet, round(130 * area) + 4, under_way=False)
    return fleet.ships


def _moor(fleet: Fleet, start: Points, end: Points) -> None:
    """Place ships along a quay, some of them two abreast."""
    line = end - start
    length = float(np.hypot(*line))
    along = line / length
    off = np.array([along[1], -along[0]])  # to the left hand, y down
    at = 6.0
    while at < length - 20:
        kind = fleet.pick((*LARGE, TRAWLER))
        ship = fleet.new(kind, 0, 0, np.arctan2(along[1], along[0]))
        middle = start + along * (at + ship.length / 2) + off * (ship.beam / 2 + GAP)
        if at + ship.length < length and fleet.random.uniform() < 0.75:
            turn = np.pi if fleet.random.uniform() < 0.3 else 0.0
            fleet.add(_moved(ship, middle, ship.heading + turn))
            if fleet.random.uniform() < 0.25:
                beside = middle + off * (ship.beam + GAP + 1)
                fleet.add(_moved(ship, beside, ship.heading))
        at += ship.length + fleet.random.uniform(8, 40)


def _moved(ship: Ship, centre: Points, heading: float) -> Ship:
    """The same ship at another position and heading."""
    return replace(ship, centre=(float(centre[0]), float(centre[1])), heading=float(heading))


def _berth_boats(fleet: Fleet, start: Points, end: Points) -> None:
    """Place small boats at right angles on both sides of a pontoon."""
    line = end - start
    length = float(np.hypot(*line))
    along = line / length
    for side in (-1, 1):
        off = side * np.array([along[1], -along[0]])
        for at in np.arange(6, length - 6, 12.0):
            if fleet.random.uniform() < 0.6:
                heading = np.arctan2(off[1], off[0]) + (
                    np.pi if fleet.random.uniform() < 0.5 else 0
                )
                boat = fleet.new(BOAT, 0, 0, heading)
                middle = start + along * at + off * (boat.length / 2 + 2.2 + GAP)
                fleet.add(_moved(boat, middle, heading))


def _straddle(fleet: Fleet, count: int) -> None:
    """Place ships over edges and corners of tiles of 512 pixels that overlap by 128."""
    size = fleet.harbour.size
    starts = positions(size, 512, 128)
    edges = [*starts[1:], *[start + 512 for start in starts[:-1]]]
    for attempt in range(count * 8):
        if not edges or count <= 0:
            return
        x, y = fleet.random.uniform(0, size, 2)
        if attempt % 3 != 1:
            x = edges[fleet.random.integers(len(edges))] + fleet.random.uniform(-4, 4)
        if attempt % 3 != 0:
            y = edges[fleet.random.integers(len(edges))] + fleet.random.uniform(-4, 4)
        heading = fleet.random.uniform(0, 2 * np.pi)
        count -= fleet.add(fleet.new(fleet.pick(KINDS), x, y, heading), room=14)


def _scatter(fleet: Fleet, count: int, *, under_way: bool) -> None:
    """Place ships on open water: under way with wakes, or at anchor with bows to the wind."""
    size, wind = fleet.harbour.size, np.deg2rad(205)
    for _ in range(count * 6):
        if count <= 0:
            return
        u, v = fleet.random.uniform((-0.75, 0.06), (0.75, 0.95))
        x, y = size * 0.4 + size * (u * ALONG + v * SEAWARD)
        if under_way:
            kind = fleet.pick((BOAT, BOAT, TRAWLER, TRAWLER, *LARGE))
            heading, wake = fleet.random.uniform(0, 2 * np.pi), fleet.random.uniform(1.2, 3)
        else:
            kind, wake = fleet.pick((*LARGE, *LARGE, TRAWLER, BOAT)), 0.0
            heading = wind + fleet.random.normal(0, 0.25)
        count -= fleet.add(fleet.new(kind, x, y, heading, wake), room=24)
