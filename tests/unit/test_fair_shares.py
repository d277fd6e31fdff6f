"""Fair shares of the slots of a limit, between owners, images and regions."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.sharing.shares import Claim, divide, fair_shares, weight_of

TOTALS = st.integers(0, 200)
WANTED = st.lists(st.integers(0, 40), max_size=12)
PRIORITIES = st.integers(-100, 100)
WEIGHTED = st.lists(st.tuples(st.integers(0, 40), PRIORITIES.map(weight_of)), max_size=12)


def unlimited(_: str) -> None:
    """No owner has a quota."""


def claims(*images: list[int], owner: str = "", priority: int = 0) -> list[Claim]:
    """One claim for each number; each list is an image's."""
    return [
        Claim(
            UUID(bytes=f"{owner:8}{image:4}{number:4}".encode()),
            UUID(bytes=f"{owner:8}{image:8}".encode()),
            wanted,
            owner,
            priority,
        )
        for image, regions in enumerate(images)
        for number, wanted in enumerate(regions)
    ]


# One division


@given(TOTALS, WEIGHTED)
def test_no_share_exceeds_what_is_wanted_and_no_wanted_slot_is_left(
    total: int, asked: list[tuple[int, int]]
) -> None:
    wanted, weights = [want for want, _ in asked], [weight for _, weight in asked]
    shares = divide(total, wanted, weights)
    assert all(0 <= share <= want for share, want in zip(shares, wanted, strict=True))
    assert sum(shares) == min(total, sum(wanted))


@given(TOTALS, WEIGHTED)
def test_nobody_who_wants_more_has_less_for_its_weight_than_another_without_its_last_slot(
    total: int, asked: list[tuple[int, int]]
) -> None:
    """Weighted max-min fairness in whole numbers: no slot could be passed on to a poorer one."""
    shares = divide(total, [want for want, _ in asked], [weight for _, weight in asked])
    for share, (want, weight) in zip(shares, asked, strict=True):
        for other, (_, other_weight) in zip(shares, asked, strict=True):
            if share < want and other:
                assert Fraction(share, weight) >= Fraction(other - 1, other_weight)


@given(TOTALS, WANTED)
def test_equal_ones_that_want_more_differ_by_one_at_most(total: int, wanted: list[int]) -> None:
    shares = divide(total, wanted)
    for share, want in zip(shares, wanted, strict=True):
        if share < want:
            assert share >= max(shares) - 1


@given(TOTALS, TOTALS, st.integers(1, 12))
def test_of_equal_claims_the_earlier_has_one_more(total: int, want: int, number: int) -> None:
    shares = divide(total, [want] * number)
    assert shares == sorted(shares, reverse=True)


@given(st.lists(PRIORITIES, min_size=1, max_size=12), st.data())
def test_whoever_wants_something_gets_something_whatever_the_weights(
    priorities: list[int], data: st.DataObject
) -> None:
    total = data.draw(st.integers(len(priorities), 200))
    shares = divide(total, [100] * len(priorities), [weight_of(each) for each in priorities])
    assert min(shares) >= 1


def test_ten_points_of_priority_double_a_share() -> None:
    assert divide(30, [99, 99], [weight_of(10), weight_of(0)]) == [20, 10]
    assert [weight_of(each) for each in (-100, 0, 10, 100)] == [1, 1024, 2048, 2**20]


# Owners, images, regions


@given(TOTALS, st.lists(WANTED, max_size=6))
def test_slots_are_shared_by_images_and_then_by_their_regions(
    limit: int, images: list[list[int]]
) -> None:
    asked = claims(*images)
    shares = fair_shares(limit, asked, unlimited)
    assert shares.keys() == {claim.region for claim in asked}
    present = [regions for regions in images if regions]
    of_images = Counter[UUID]()
    for claim in asked:
        of_images[claim.image] += shares[claim.region]
    assert [*of_images.values()] == divide(limit, [sum(regions) for regions in present])


@given(
    TOTALS,
    st.dictionaries(st.sampled_from("abcd"), st.lists(WANTED, max_size=3)),
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 60)),
)
def test_owners_have_equal_shares_within_their_quotas_and_no_slot_is_idle(
    limit: int, owners: dict[str, list[list[int]]], quotas: dict[str, int]
) -> None:
    asked = [claim for owner, images in owners.items() for claim in claims(*images, owner=owner)]
    shares = fair_shares(limit, asked, quotas.get)
    got, wanted = Counter[str](), Counter[str]()
    for claim in asked:
        got[claim.owner] += shares[claim.region]
        wanted[claim.owner] += claim.wanted
    within = {owner: min(want, quotas.get(owner, want)) for owner, want in wanted.items()}
    assert sum(got.values()) == min(limit, sum(within.values()))
    for owner, want in within.items():
        assert got[owner] <= want
        assert got[owner] == want or got[owner] >= max(got.values()) - 1


@given(TOTALS, st.lists(st.tuples(WANTED, PRIORITIES), max_size=6), st.randoms())
def test_the_order_of_claims_decides_about_single_slots_only(
    limit: int, images: list[tuple[list[int], int]], chance: st.DataObject
) -> None:
    asked = [
        claim
        for number, (wanted, priority) in enumerate(images)
        for claim in claims(wanted, owner=f"{number % 2}{number}", priority=priority)
    ]
    mixed = [*asked]
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    shares, others = fair_shares(limit, asked, unlimited), fair_shares(limit, mixed, unlimited)
    for image in {claim.image for claim in asked}:
        regions = [claim.region for claim in asked if claim.image == image]
        total, other = (sum(each[region] for region in regions) for each in (shares, others))
        assert abs(total - other) <= 1


def test_a_job_of_a_higher_priority_gets_more_than_others_of_its_owner_and_of_other_owners() -> (
    None
):
    urgent = claims([99], owner="a", priority=10)
    calm = claims([99], [99], owner="b")
    shares = fair_shares(60, urgent + calm, unlimited)
    assert [shares[claim.region] for claim in urgent + calm] == [40, 10, 10]
    calm = claims([99], owner="c")
    urgent[0] = Claim(UUID(int=1), UUID(int=1), 99, "c", 10)
    shares = fair_shares(60, urgent + calm, unlimited)
    assert [shares[claim.region] for claim in urgent + calm] == [40, 20]


@pytest.mark.parametrize(
    ("limit", "images", "expected"),
    [
        (8, [[20], [20, 20]], [4, 2, 2]),
        (8, [[20], [20, 20], [20]], [3, 2, 1, 2]),
        (8, [[20], [1, 0], [20]], [4, 1, 0, 3]),
        (2, [[5, 5, 5], [5]], [1, 0, 0, 1]),
        (1, [[5], [5]], [1, 0]),
        (0, [[5]], [0]),
    ],
)
def test_shares_of_a_few_images(limit: int, images: list[list[int]], expected: list[int]) -> None:
    asked = claims(*images)
    shares = fair_shares(limit, asked, unlimited)
    assert [shares[claim.region] for claim in asked] == expected
