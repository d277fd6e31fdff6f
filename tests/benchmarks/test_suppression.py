"""NMS compared with other libraries and a sort of the scores, time and memory; NMS by regions."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import powerboxes
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge import Settled, merge, settle
from tasks.merge.algorithms.nms import nms
from tasks.request import Algorithm
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.detections import SCHEMA, concatenate
from tests.benchmarks.test_cut_objects import detect

try:
    import lsnms
except ImportError:
    lsnms = None

MILLION = 1_000_000
VIEWS = 3  # of an object, on average
CLASSES = 5
OFF = 2.0  # px, standard deviation of a view's sides
PITCH = 20.8  # px between objects on average, in a dense scene: two or three lie over each other
ROUNDS = 3

Boxes = NDArray[np.float64]
Indices = NDArray[np.int64]
Scene = tuple[Boxes, NDArray[np.float64], Indices]


def scene(count: int, side: float, seed: int = 0) -> Scene:
    """Boxes, scores and classes of views of objects of 10 to 60 px, in no order.

    Args:
        count: Views.
        side: Of the square that the objects stand in, px.
        seed: Of the scene.
    """
    random = np.random.default_rng(seed)
    objects = -(-count // VIEWS)
    views = random.integers(0, objects, count)
    centres, sides = random.uniform(50, side, (objects, 2)), random.uniform(10, 60, (objects, 2))
    boxes = np.hstack([centres - sides / 2, centres + sides / 2])[views]
    boxes += random.normal(0, OFF, boxes.shape)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)  # peers refuse sides below zero
    return boxes, random.random(count), random.integers(0, CLASSES, objects)[views]


def by_powerboxes(
    boxes: Boxes, scores: NDArray[np.float64], classes: Indices, iou: float
) -> Indices:
    """NMS by an R-tree, class by class, for it knows none; indices of what it keeps."""
    kept = []
    for label in np.unique(classes):
        own = np.flatnonzero(classes == label)
        kept.append(own[powerboxes.rtree_nms(boxes[own], scores[own], iou, -1.0)])
    return np.sort(np.concatenate(kept))


def by_lsnms(boxes: Boxes, scores: NDArray[np.float64], classes: Indices, iou: float) -> Indices:
    return np.sort(lsnms.nms(boxes, scores, iou, 0.0, classes))


PEERS = {"powerboxes": by_powerboxes} | ({"lsnms": by_lsnms} if lsnms else {})


class Clock:
    """The least CPU and wall seconds of each function, and its result."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = {}
        self.wall: dict[str, float] = {}
        self.gave: dict[str, Indices] = {}

    def run(self, name: str, work: Callable[[], Indices]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.gave[name] = work()
        spent, passed = time.process_time() - cpu, time.perf_counter() - wall
        self.cpu[name] = min(spent, self.cpu.get(name, np.inf))
        self.wall[name] = min(passed, self.wall.get(name, np.inf))


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    warm_up()


def warm_up() -> None:
    nms(*scene(10_000, 1000), 0.5)


@pytest.mark.parametrize("iou", [0.5, 0.75])
@pytest.mark.parametrize("name", ["dense", "sparse"])
def test_a_million_boxes_beside_a_sort_and_the_peers(name: str, iou: float) -> None:
    side = PITCH * (MILLION / VIEWS) ** 0.5 * (1 if name == "dense" else 5)
    boxes, scores, classes = scene(MILLION, side)
    clock = Clock()
    for _ in range(ROUNDS):
        for peer, work in PEERS.items():
            clock.run("argsort", lambda: np.argsort(scores))
            clock.run("swath", lambda: nms(boxes, scores, classes, iou))
            clock.run(peer, lambda work=work: work(boxes, scores, classes, iou))  # type: ignore[misc]
    ours = clock.gave["swath"]
    ratios = {peer: clock.cpu[peer] / clock.cpu["swath"] for peer in PEERS}
    sorts = clock.cpu["swath"] / clock.cpu["argsort"]
    line: dict[str, object] = {"benchmark": "NMS", "scene": name, "boxes": MILLION, "iou": iou}
    line |= {"kept": len(ours), "cpu_s": _rounded(clock.cpu), "wall_s": _rounded(clock.wall)}
    line |= {"argsorts": round(sorts, 2), "times_as_fast_as": _rounded(ratios)}
    line |= {"decided_otherwise": {p: len(np.setxor1d(ours, clock.gave[p])) for p in PEERS}}
    print(json.dumps(line | ({} if lsnms else {"lsnms": "is not installed"})))
    assert sorts <= 4
    assert min(ratios.values()) >= 5


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(figure, 3) for name, figure in figures.items()}


def kibibytes(field: str) -> int:
    """Memory of this process: VmRSS now, VmHWM at its peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(rf"{field}:\s+(\d+) kB", status)[0])


def decide_ten_million(millions: int) -> dict[str, float]:
    """Bytes a detection beyond the input at the peak, and CPU seconds of NMS and of a sort."""
    warm_up()
    count = millions * MILLION
    boxes, scores, classes = np.empty((count, 4)), np.empty(count), np.empty(count, np.int64)
    for part in range(millions):  # a part at a time, for making them must not be the peak
        own = slice(part * MILLION, (part + 1) * MILLION)
        side = PITCH * (count / VIEWS) ** 0.5
        boxes[own], scores[own], classes[own] = scene(MILLION, side, seed=part)
    before = kibibytes("VmRSS")
    wall, start = time.perf_counter(), time.process_time()
    kept = nms(boxes, scores, classes, 0.5)
    spent, passed = time.process_time() - start, time.perf_counter() - wall
    beyond = 1024 * (kibibytes("VmHWM") - before) / count
    start = time.process_time()
    np.argsort(scores)
    sort = time.process_time() - start
    line = {"kept": len(kept), "cpu_s": spent, "wall_s": passed, "cpu_s_argsort": sort}
    return line | {"argsorts": spent / sort, "bytes_a_box_beyond_the_input": beyond}


def test_ten_million_boxes_take_at_most_64_bytes_each_beyond_the_input() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        line = process.submit(decide_ten_million, 10).result()
    print(json.dumps({"benchmark": "NMS", "boxes": 10 * MILLION, "iou": 0.5} | _rounded(line)))
    assert 0 < line["bytes_a_box_beyond_the_input"] <= 64


def chain(random: np.random.Generator) -> Boxes:
    """Each overlaps the next two or three, by less the further along."""
    x = np.arange(200_000) * 3.0
    return np.stack([x, 0 * x, x + 10, 0 * x + 10], axis=1)


def pile(random: np.random.Generator) -> Boxes:
    """All in one place, of many sizes and shapes."""
    corner = random.normal(500, 2, (20_000, 2))
    return np.hstack([corner, corner + random.uniform(30, 60, (20_000, 2))])


def identical(random: np.random.Generator) -> Boxes:
    return np.tile([100.0, 100.0, 140.0, 140.0], (200_000, 1))


def thin(random: np.random.Generator) -> Boxes:
    """Crossing strips, each of which overlaps thousands a little."""
    corner, size = random.uniform(0, 3000, (20_000, 2)), random.uniform(0.1, 0.3, (20_000, 2))
    size[np.arange(20_000), random.integers(0, 2, 20_000)] = 1000
    return np.hstack([corner, corner + size])


def stacks(random: np.random.Generator) -> Boxes:
    """Strips in parallel, each just below the next."""
    corner = np.stack([np.zeros(200_000), random.permutation(200_000) * 0.15], axis=1)
    return np.hstack([corner, corner + np.array([1000, 0.3])])


def mixed_sizes(random: np.random.Generator) -> Boxes:
    centre, half = random.uniform(0, 2e4, (200_000, 2)), np.exp(random.uniform(-4, 6, (200_000, 2)))
    return np.hstack([centre - half, centre + half])


def clusters(random: np.random.Generator) -> Boxes:
    """Fifty crowds on an image that is otherwise empty."""
    corner = np.repeat(random.uniform(0, 2e5, (50, 2)), 4000, axis=0)
    corner += random.normal(0, 100, corner.shape)
    return np.hstack([corner, corner + random.uniform(10, 60, corner.shape)])


ADVERSARIES = [chain, pile, identical, thin, stacks, mixed_sizes, clusters]
ORDERS: dict[str, Callable[[int], NDArray[np.float64]]] = {
    "falling": lambda count: 1 - np.arange(count) / count,
    "rising": lambda count: (np.arange(count) + 1) / count,
    "random": lambda count: np.random.default_rng(4).random(count),
}


@pytest.mark.parametrize("make", ADVERSARIES)
def test_adversaries(make: Callable[[np.random.Generator], Boxes]) -> None:
    boxes = make(np.random.default_rng(3))
    classes = np.zeros(len(boxes), np.int64)
    seconds, kept = {}, {}
    for order, scores in ORDERS.items():
        for iou in (0.1, 0.5, 0.75):
            clock = Clock()
            given = scores(len(boxes))
            for _ in range(2):
                clock.run("swath", lambda given=given, iou=iou: nms(boxes, given, classes, iou))  # type: ignore[misc]
            seconds[f"{order}, {iou}"] = round(clock.cpu["swath"], 3)
            kept[f"{order}, {iou}"] = len(clock.gave["swath"])
    line = {"benchmark": "NMS", "adversary": make.__name__, "boxes": len(boxes)}
    print(json.dumps(line | {"cpu_s": seconds, "kept": kept}))
    assert all(0 < number <= len(boxes) for number in kept.values())


SIDE = 60_000  # px


def seen_in_tiles(grid: Grid) -> pa.Table:
    """A million detections of objects of 10 to 60 px, as a detector sees them in each tile."""
    random = np.random.default_rng(11)
    sides = random.uniform(10, 60, (510_000, 2))
    low = random.uniform(0, SIDE - sides)
    boxes, scores, tiles, objects = detect(np.hstack([low, low + sides]), grid, 0.0, random)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])  # a sliver may be seen as a line
    firsts = np.searchsorted(tiles, tiles)
    names = pa.array([f"class {label}" for label in range(CLASSES)])
    labels = pa.array(objects % CLASSES, pa.int32())
    columns = {
        "tile": tiles,
        "ordinal": pa.array(np.arange(len(tiles)) - firsts, pa.int32()),
        **dict(zip(("x_min", "y_min", "x_max", "y_max"), boxes.T, strict=True)),
        "score": scores,
        "class_name": pa.DictionaryArray.from_arrays(labels, names).cast(pa.string()),
        "geometry": pa.nulls(len(tiles), pa.binary()),
        "properties": pa.repeat("{}", len(tiles)),
    }
    return pa.table(columns, schema=SCHEMA)


@pytest.mark.parametrize("widest", [SIDE, 4096], ids=["bands", "squares"])
@pytest.mark.parametrize("edge_rule", [True, False], ids=["edge rule", "no edge rule"])
def test_regions_come_to_what_all_at_once_comes_to(edge_rule: bool, widest: int) -> None:
    grid = Grid(SIDE, SIDE, 512, 128)
    table = seen_in_tiles(grid)
    fields = {"algorithmType": "NMS", "iouThreshold": 0.5, "edgeRule": edge_rule}
    algorithm = Algorithm.model_validate(fields)
    regions = grid.regions(4096, widest)
    tiles = [tile for region in regions for tile in grid.tiles(region)]
    ledger = coverage.ledger(TileRecord(tile, TileState.INFERRED) for tile in tiles)
    looked = coverage.inferred(ledger, grid)
    of_region = np.empty(len(grid), np.int64)
    for region in regions:
        of_region[[tile.index for tile in grid.tiles(region)]] = region.index
    settle(table.slice(0, 10_000), algorithm, grid, looked)  # compiles the rest

    cpu: dict[str, float] = {}
    start = time.process_time()
    whole = settle(table, algorithm, grid, looked).decided
    cpu["at once"] = time.process_time() - start

    settled: list[Settled] = []
    places = of_region[table["tile"].to_numpy()]
    for region in regions:
        own = table.filter(pa.array(places == region.index))
        known = np.where(of_region == region.index, looked, -1).astype(np.int8)
        start = time.process_time()
        settled.append(settle(own, algorithm, grid, known, grid.interior(region)))
        cpu["regions"] = cpu.get("regions", 0) + time.process_time() - start
    start = time.process_time()
    deferred = concatenate([each.deferred for each in settled])
    merged = merge(deferred, algorithm, grid, ledger)
    cpu["merge"] = time.process_time() - start
    result = concatenate([merged, *(each.decided for each in settled)])

    line: dict[str, object] = {"benchmark": "NMS by regions", "edge_rule": edge_rule}
    line |= {"regions": len(regions), "of_px": [max(r.width for r in regions), 4096]}
    line |= {"detections": len(table), "deferred": len(deferred), "results": len(result)}
    line |= {"percent_deferred": round(100 * len(deferred) / len(table), 2)}
    print(json.dumps(line | {"cpu_s": _rounded(cpu)}))
    assert len(table) >= MILLION
    assert 0 < len(deferred) < len(table)
    assert result.equals(whole)
