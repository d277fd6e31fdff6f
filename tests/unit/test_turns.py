"""Which of the images that wait begins next, and why the others wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from tasks.sharing.turns import HEAD_START, SETTLED, Places, Waiting, Working, turns

NOW = 1_000_000.0
OWNERS = st.sampled_from("abcd")
MODELS = st.sampled_from(["ships", "roads"])
TIMES = st.integers(0, 100).map(lambda minutes: NOW - 60.0 * minutes)


def unlimited(_: str) -> None:
    """No owner has a quota."""


def places(
    number: int | None,
    working: Sequence[Working] = (),
    *,
    full: Sequence[str] = (),
    brief: Sequence[str] = ("ships",),
    quotas: Mapping[str, int] | None = None,
    begun: Sequence[tuple[str, float]] = (),
) -> Places:
    known = [*begun, *((job.owner, job.since) for job in working)]
    return Places(number, working, known, frozenset(full), frozenset(brief), (quotas or {}).get)


def waiting(*jobs: tuple[str, int], model: str = "ships", start: int = 0) -> list[Waiting[int]]:
    """Images by owner and priority, that came one after the other."""
    return [
        Waiting(number, owner, model, priority, NOW - 600 + number)
        for number, (owner, priority) in enumerate(jobs, start)
    ]


def begun(jobs: Sequence[Waiting[int]], here: Places) -> list[int]:
    return [turn.job.id for turn in turns(jobs, here, NOW) if not turn.reason]


def order(jobs: Sequence[Waiting[int]], here: Places) -> list[int]:
    return [turn.job.id for turn in turns(jobs, here, NOW)]


JOBS = st.lists(st.tuples(OWNERS, MODELS, st.integers(-100, 100), TIMES), max_size=12).map(
    lambda drawn: [Waiting(i, *each) for i, each in enumerate(drawn)]
)
WORKING = st.lists(st.builds(Working, OWNERS, MODELS, TIMES), max_size=8)
QUOTAS = st.dictionaries(OWNERS, st.integers(1, 4))
PLACES = st.builds(
    places,
    st.none() | st.integers(1, 8),
    WORKING,
    full=st.lists(MODELS, max_size=2),
    brief=st.lists(MODELS, max_size=2),
    quotas=QUOTAS,
)


@given(JOBS, PLACES, st.randoms())
def test_every_process_comes_to_the_same_order_of_all_images(
    jobs: list[Waiting[int]], here: Places, chance: st.DataObject
) -> None:
    found = [*turns(jobs, here, NOW)]
    mixed = [*jobs]
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    assert [*turns(mixed, here, NOW)] == found
    assert sorted(turn.job.id for turn in found) == [job.id for job in jobs]


@given(JOBS, PLACES, QUOTAS)
def test_no_place_is_idle_while_an_image_may_have_it_and_no_owner_exceeds_its_quota(
    jobs: list[Waiting[int]], here: Places, quotas: dict[str, int]
) -> None:
    here = replace(here, quota=quotas.get)
    number, working = here.number, here.working
    found = [*turns(jobs, here, NOW)]
    begin = [turn.job for turn in found if not turn.reason]
    before = Counter(job.owner for job in working)
    taken = before + Counter(job.owner for job in begin)
    for owner, most in quotas.items():
        assert taken[owner] <= max(most, before[owner])
    free = None if number is None else max(0, number - len(working))
    assert free is None or len(begin) <= free
    if free is None or len(begin) < free:
        for turn in found:
            if turn.reason:  # each that waits on has a reason of its own
                assert "SWATH_OWNER_QUOTAS" in turn.reason or "its model" in turn.reason


def test_of_one_owner_the_highest_priority_comes_first_then_the_longest_wait() -> None:
    jobs = waiting(("a", 0), ("a", 10), ("a", 0), ("a", -1), ("a", 10))
    assert order(jobs, places(1)) == [1, 4, 0, 2, 3]


def test_an_hour_of_waiting_counts_as_a_point_of_priority() -> None:
    long_ago = Waiting(0, "a", "ships", 0, NOW - 3 * HEAD_START)
    urgent = [Waiting(number, "a", "ships", number, NOW) for number in (2, 4)]
    assert order([*urgent, long_ago], places(1)) == [4, 0, 2]


def test_a_higher_priority_goes_before_the_images_of_other_owners() -> None:
    working = [Working("b", "ships", NOW - 60), Working("b", "ships", NOW - 60)]
    jobs = waiting(("a", 0), ("c", 0), ("b", 10))
    assert begun(jobs, places(3, working)) == [2]


def test_owners_with_the_same_priority_take_turns_however_many_images_they_have() -> None:
    jobs = waiting(*[("a", 0)] * 6, ("b", 0), ("b", 0), ("c", 0))
    assert order(jobs, places(9)) == [0, 6, 8, 1, 7, 2, 3, 4, 5]
    assert begun(jobs, places(3)) == [0, 6, 8]
    # "a" has two places already, and "b" was the last to begin
    working = [Working("a", "ships", NOW - 99), Working("a", "ships", NOW - 98)]
    here = places(4, working, begun=[("b", NOW - 10), ("c", NOW - 50)])
    assert begun(jobs, here) == [8, 6]


@given(st.integers(2, 6), st.lists(st.integers(-100, 100), min_size=6, max_size=6))
def test_every_owner_gets_a_place_again_and_again_whatever_the_priorities(
    owners: int, priorities: list[int]
) -> None:
    """One place, which each image has for a minute; every owner always has images that wait."""
    numbers, now = count(), NOW
    jobs = {
        owner: Waiting(next(numbers), f"{owner}", "ships", priorities[owner], NOW)
        for owner in range(owners)
    }
    begun: list[tuple[str, float]] = []
    for _ in range(12 * owners):
        now += 60
        first = next(
            turns(jobs.values(), Places(1, [], begun, frozenset(), frozenset(), unlimited), now)
        )
        assert not first.reason
        begun.append((first.job.owner, now))
        owner = int(first.job.owner)
        jobs[owner] = Waiting(next(numbers), f"{owner}", "ships", priorities[owner], now)
    names = [owner for owner, _ in begun]
    for start in range(len(names) - 3 * owners):
        assert len({*names[start : start + 3 * owners]}) == owners, names


def test_a_busy_model_leaves_half_of_the_places_to_others() -> None:
    working = [Working("a", "slow", NOW - SETTLED)] * 2
    slow = waiting(("a", 0), ("a", 0), model="slow")
    idle = waiting(("a", -5), model="idle", start=2)
    assert begun(slow + idle, places(4, working, full=["slow"])) == [2]
    # an owner without an image there may have one, but not in the last place
    others = waiting(("b", 0), ("c", 0), model="slow", start=3)
    assert begun(others, places(4, working, full=["slow"])) == [3]


def test_a_model_that_takes_more_calls_gets_more_than_half_of_the_places_one_by_one() -> None:
    working = [Working("a", "slow", NOW - SETTLED)] * 2
    slow = waiting(("a", 0), ("a", 0), model="slow")
    assert begun(slow, places(4, working)) == [0]
    assert begun(slow, places(4, [*working, Working("a", "slow", NOW - SETTLED + 1)])) == []
    assert begun(slow, places(4, [*working, Working("a", "slow", NOW - SETTLED)])) == [0]


def test_a_model_whose_images_end_soon_gets_all_places() -> None:
    working = [Working("a", "slow", NOW)] * 2
    slow = waiting(("a", 0), ("a", 0), model="slow")
    assert begun(slow, places(4, working, full=["slow"], brief=["slow"])) == [0, 1]


def test_each_image_that_waits_is_told_why() -> None:
    working = [Working("a", "slow", NOW - SETTLED), Working("", "ships", NOW)]
    jobs = [
        *waiting(("b", 0), ("b", 0)),
        *waiting(("c", 0), ("", 0), start=2),
        *waiting(("a", 0), model="slow", start=4),
    ]
    here = places(2, working, full=["slow"], quotas={"c": 1, "": 1})
    found = {turn.job.id: turn.reason for turn in turns(jobs, here, NOW)}
    assert found == {
        0: "waits until fewer than 2 images run: it is next",
        2: "waits until fewer than 2 images run: 1 image before it",
        1: "waits until fewer than 2 images run: 2 images before it",
        3: "waits as jobs without an owner may have 1 image at work (SWATH_OWNER_QUOTAS)",
        4: "waits as its model is busy with 1 image: all its calls are taken",
    }
