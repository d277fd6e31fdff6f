"""Which image submits its next region, and the places that owners get over time.

The second part is a simulation: a work pool, whose line is first in, first out as Prefect's, and
the images' runs, which look at it one after the other in a random order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.sharing.regions import Pool, RegionClaim, may_submit, most_waiting
from tests.examples import examples

PLACES = 8
OWNERS = st.sampled_from("abcd")


def unlimited(_: str) -> None:
    """No owner has a quota."""


def claim(
    number: int, owner: str = "a", held: int = 0, *, priority: int = 0, since: float = 0.0
) -> RegionClaim:
    return RegionClaim(UUID(int=number), owner, priority, held, since)


@st.composite
def claims(draw: st.DrawFn) -> list[RegionClaim]:
    row = st.tuples(OWNERS, st.integers(0, 9), st.integers(-100, 100), st.floats(0, 9))
    rows = draw(st.lists(row, min_size=1, max_size=12))
    return [
        RegionClaim(UUID(int=number), owner, priority, held, since)
        for number, (owner, held, priority, since) in enumerate(rows)
    ]


def submitting(
    found: list[RegionClaim], places: int, taken: int, quotas: dict[str, int]
) -> list[RegionClaim]:
    """The images that would submit a region if all looked at once."""
    of_owner = Counter[str]()
    for each in found:
        of_owner[each.owner] += each.held
    return [
        own
        for own in found
        if may_submit(
            own,
            [other for other in found if other is not own],
            Pool(places, taken, of_owner[own.owner], quotas.get),
        )
    ]


# The decision


@given(claims(), st.integers(1, 20), st.integers(0, 5), st.dictionaries(OWNERS, st.integers(1, 9)))
def test_no_owner_exceeds_its_quota_though_its_images_look_at_once(
    found: list[RegionClaim], places: int, others: int, quotas: dict[str, int]
) -> None:
    held = Counter[str]()
    for each in found:
        held[each.owner] += each.held
    new = Counter(each.owner for each in submitting(found, places, held.total() + others, quotas))
    for owner, number in new.items():
        assert number == 0 or held[owner] + number <= quotas.get(owner, 10**6)


@given(claims(), st.integers(1, 20), st.dictionaries(OWNERS, st.integers(1, 9)))
def test_an_owner_with_nothing_submits_a_region_at_once(
    found: list[RegionClaim], places: int, quotas: dict[str, int]
) -> None:
    taken = max(places, sum(each.held for each in found))
    new = {each.owner for each in submitting(found, places, taken, quotas)}
    for owner in {each.owner for each in found}:
        if not any(each.held for each in found if each.owner == owner):
            assert owner in new


@given(claims(), st.integers(1, 20), st.integers(0, 30), st.dictionaries(OWNERS, st.integers(1, 9)))
def test_a_free_place_is_taken_unless_quotas_forbid(
    found: list[RegionClaim], places: int, taken: int, quotas: dict[str, int]
) -> None:
    held = Counter[str]()
    for each in found:
        held[each.owner] += each.held
    may = any(held[each.owner] < quotas.get(each.owner, 10**6) for each in found)
    if may and taken < places:
        assert submitting(found, places, taken, quotas)


@examples(0.2)
@given(claims(), st.integers(1, 10))
def test_owners_have_the_same_and_so_have_their_images_and_few_regions_wait(
    found: list[RegionClaim], places: int
) -> None:
    even = [claim(number, each.owner, since=each.since) for number, each in enumerate(found)]
    owners = {each.owner for each in even}
    held = {each.image: 0 for each in even}
    while sum(held.values()) < 50:
        now = [claim(each.image.int, each.owner, held[each.image]) for each in even]
        taken = max(places, sum(held.values()))
        new = submitting(now, places, taken, {})
        if not new:
            break
        held[min(new, key=lambda each: each.held).image] += 1
    shares = Counter[str]()
    for each in even:
        shares[each.owner] += held[each.image]
    assert len(set(shares.values())) == 1  # all want more, so owners have the same
    waiting = 2 * len(owners) if len(owners) > 1 else 1 + min(len(even), most_waiting(places))
    assert places <= sum(shares.values()) < places + waiting
    images = Counter(each.owner for each in even)
    for each in even:  # and the images of an owner, but for one region
        assert abs(held[each.image] - shares[each.owner] / images[each.owner]) < 1


def test_the_image_with_the_fewest_regions_is_next_then_the_one_that_waits_longest() -> None:
    def next_of(*found: RegionClaim) -> list[int]:
        held = sum(each.held for each in found)
        return [each.image.int for each in submitting([*found], held - 1, held, {})]

    assert next_of(claim(1, held=4), claim(2, held=3)) == [2]
    assert next_of(claim(1, held=4, since=2.0), claim(2, held=4, since=1.0)) == [2]
    assert next_of(claim(1, held=4, priority=10), claim(2, held=3)) == [1]
    assert next_of(claim(1, held=4, priority=100), claim(2, held=0)) == [2]


@pytest.mark.parametrize(("priority", "most"), [(0, 5), (10, 7), (100, 9), (-10, 4), (-100, 1)])
def test_an_owner_has_a_larger_share_by_the_priority_of_its_images(
    priority: int, most: int
) -> None:
    other = claim(2, "b", 9)
    allowed = [
        held
        for held in range(12)
        if may_submit(
            claim(1, "a", held, priority=priority), [other], Pool(PLACES, 20, held, unlimited)
        )
    ]
    assert allowed == [*range(most)]


# Over time


@dataclass
class Image:
    """An image, whose regions take some steps each."""

    number: int
    owner: str
    priority: int
    arrives: int
    left: int
    steps: int
    since: float = 0.0
    held: int = 0
    waiting: int = 0
    first: int | None = None


@dataclass
class Simulation:
    """A work pool, its line, and what was seen at each step."""

    images: list[Image]
    quotas: dict[str, int] = field(default_factory=dict)
    line: list[Image] = field(default_factory=list)
    running: list[tuple[int, Image]] = field(default_factory=list)
    taken: list[Counter[str]] = field(default_factory=list)
    idle: int = 0

    def run(self, steps: int) -> Simulation:
        chance = Random(1)
        for now in range(steps):
            for end, image in [each for each in self.running if each[0] <= now]:
                self.running.remove((end, image))
                image.held -= 1
            self._start(now)
            here = [image for image in self.images if image.arrives <= now]
            chance.shuffle(here)
            for image in here:
                while self._submit(image, now, here):
                    pass
            self._start(now)
            self.taken.append(Counter(image.owner for _, image in self.running))
            wants = [image for image in here if image.left and image.owner not in self.quotas]
            self.idle += len(self.running) < PLACES and bool(wants)
        return self

    def _start(self, now: int) -> None:
        while self.line and len(self.running) < PLACES:
            image = self.line.pop(0)
            image.waiting -= 1
            image.first = now if image.first is None else image.first
            self.running.append((now + image.steps, image))

    def _submit(self, image: Image, now: int, here: list[Image]) -> bool:
        taken = len(self.running) + len(self.line)
        if not image.left or (image.waiting >= most_waiting(PLACES) and taken >= PLACES):
            return False
        own, *others = [
            claim(each.number, each.owner, each.held, priority=each.priority, since=each.since)
            for each in sorted(here, key=lambda each: each is not image)
            if each.left
        ]
        of_owner = sum(each.held for each in here if each.owner == image.owner)
        if not may_submit(own, others, Pool(PLACES, taken, of_owner, self.quotas.get)):
            return False
        image.left -= 1
        image.held += 1
        image.waiting += 1
        image.since = now + 1e-3 * len(self.line)
        self.line.append(image)
        return True

    def places(self, owner: str, begin: int, end: int) -> float:
        """The places of an owner in the mean over some steps."""
        return sum(taken[owner] for taken in self.taken[begin:end]) / (end - begin)


MANY = 10_000  # regions, more than are worked


def owners(priority: int = 0, quotas: dict[str, int] | None = None) -> Simulation:
    """Ten images of one owner, then one each of two others; those of each take another time."""
    images = [Image(number, "many", 0, 0, MANY, 12) for number in range(10)]
    images.append(Image(10, "long", 0, 100, MANY, 24))
    images.append(Image(11, "short", priority, 200, MANY, 8))
    return Simulation(images, quotas or {}).run(1000)


def test_owners_have_equal_places_however_many_images_they_have_and_how_long_regions_take() -> None:
    simulation = owners()
    assert simulation.places("many", 50, 100) == PLACES
    assert simulation.places("many", 150, 200) == pytest.approx(4, abs=1)
    for owner in ("many", "long", "short"):
        assert simulation.places(owner, 400, 1000) == pytest.approx(PLACES / 3, abs=0.8)
    assert simulation.idle == 0


def test_an_image_of_high_priority_has_most_places_and_the_others_go_on() -> None:
    simulation = owners(priority=100)
    assert simulation.places("short", 400, 1000) >= PLACES / 2 + 1
    assert min(simulation.places(owner, 400, 1000) for owner in ("many", "long")) >= 0.5
    assert simulation.idle == 0


def test_quotas_hold_at_every_step_and_what_they_leave_goes_to_the_others() -> None:
    simulation = owners(quotas={"many": 2, "short": 3})
    assert all(taken["many"] <= 2 and taken["short"] <= 3 for taken in simulation.taken)
    assert simulation.places("many", 400, 1000) >= 1  # of two that have a place or wait for one
    assert simulation.places("long", 400, 1000) >= PLACES - 2 - 3
    assert simulation.idle == 0


def test_the_images_of_one_owner_take_turns() -> None:
    images = [Image(number, "", 0, 0, MANY, 10) for number in range(20)]
    images.append(Image(20, "", 0, 500, MANY, 10))
    Simulation(images).run(800)
    worked = [MANY - image.left for image in images[:20]]
    assert min(worked) >= 0.75 * max(worked)
    late = images[20].first
    assert late is not None
    assert late - 500 <= 20 * 10 / PLACES + 10  # after one region of each of the others


def test_an_owner_who_comes_later_waits_for_few_regions_however_many_images_there_are() -> None:
    images = [Image(number, "many", 0, 0, MANY, 10) for number in range(30)]
    images.append(Image(30, "late", 0, 500, MANY, 10))
    simulation = Simulation(images).run(600)
    late = images[30].first
    assert late is not None
    assert late - 500 <= 10 + 10 * most_waiting(PLACES) / PLACES
    assert simulation.idle == 0


def test_all_regions_are_worked_and_the_pool_is_full_to_the_end() -> None:
    images = [Image(number, "abc"[number % 3], 0, 0, 40, 10) for number in range(9)]
    simulation = Simulation(images).run(9 * 40 * 10 // PLACES + 60)
    assert not any(image.left or image.held for image in images)
    assert simulation.idle == 0
