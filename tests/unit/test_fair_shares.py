"""Fair shares of the slots of a limit."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.slots.limit import Claim, divide, fair_shares

WANTED = st.lists(st.integers(0, 40), max_size=12)


def claims(*images: list[int]) -> list[Claim]:
    """One claim for each number; each list is an image's."""
    return [
        Claim(UUID(int=100 * image + number + 1), UUID(int=image), wanted)
        for image, regions in enumerate(images)
        for number, wanted in enumerate(regions)
    ]


@given(st.integers(0, 200), WANTED)
def test_no_share_exceeds_what_is_wanted_and_no_wanted_slot_is_left(
    total: int, wanted: list[int]
) -> None:
    shares = divide(total, wanted)
    assert all(0 <= share <= want for share, want in zip(shares, wanted, strict=True))
    assert sum(shares) == min(total, sum(wanted))


@given(st.integers(0, 200), WANTED)
def test_a_share_below_what_is_wanted_is_at_most_one_less_than_any_other(
    total: int, wanted: list[int]
) -> None:
    shares = divide(total, wanted)
    for share, want in zip(shares, wanted, strict=True):
        if share < want:
            assert share >= max(shares) - 1


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 12))
def test_of_equal_claims_the_earlier_has_one_more(total: int, want: int, number: int) -> None:
    shares = divide(total, [want] * number)
    assert shares == sorted(shares, reverse=True)


@given(st.integers(0, 200), st.lists(WANTED, max_size=6))
def test_slots_are_shared_by_images_and_then_by_their_regions(
    limit: int, images: list[list[int]]
) -> None:
    asked = claims(*images)
    shares = fair_shares(limit, asked)
    assert shares.keys() == {claim.region for claim in asked}
    present = [regions for regions in images if regions]
    totals = [
        sum(shares[claim.region] for claim in asked if claim.image == UUID(int=image))
        for image, regions in enumerate(images)
        if regions
    ]
    assert totals == divide(limit, [sum(regions) for regions in present])


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
    shares = fair_shares(limit, asked)
    assert [shares[claim.region] for claim in asked] == expected
