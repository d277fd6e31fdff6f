"""The stages of a run's start, from its states and its processes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.schemas.objects import State, StateType

from flows.startup import Startup, medians, stages

BOOT = 1_000.0  # when the machine's first process began, long before


def at(moment: float, kind: StateType, scheduled: float | None = None) -> State[Any]:
    details = {"scheduled_time": scheduled and datetime.fromtimestamp(scheduled, UTC)}
    when = datetime.fromtimestamp(moment, UTC)
    return State.model_validate({"type": kind, "timestamp": when, "state_details": details})


SUBMITTED = [
    at(5_000, StateType.SCHEDULED, scheduled=5_010),
    at(5_012, StateType.PENDING),
    at(5_020, StateType.RUNNING),
]


def test_stages_of_a_process_that_a_worker_started() -> None:
    found = stages(SUBMITTED, [5_013, 4_000, BOOT], 5_021.5)
    assert found == Startup(queued=2, provisioned=1, python=7, first_tile=1.5)
    assert str(found) == ("queued 2.00 s, provisioned 1.00 s, Python up 7.00 s, first tile 1.50 s")


def test_in_a_container_its_first_process_counts_not_the_one_that_runs_the_flow() -> None:
    assert stages(SUBMITTED, [5_018, 5_015.5], None) == Startup(2, 3.5, 4.5, None)


def test_a_wait_for_a_slot_is_part_of_the_queue_and_states_of_the_machine_are_not() -> None:
    waited = [
        at(5_000, StateType.SCHEDULED, scheduled=5_000),
        at(5_001, StateType.PENDING),
        at(5_002, StateType.SCHEDULED, scheduled=5_030),  # no slot was free
        at(5_031, StateType.PENDING),
        at(5_040, StateType.PENDING),  # its task is provisioned
        at(5_060, StateType.RUNNING),
        at(5_090, StateType.SCHEDULED, scheduled=5_090),  # a retry
        at(5_091, StateType.RUNNING),
    ]
    assert stages(waited[::-1], [5_050], 5_061) == Startup(31, 19, 10, 1)


def test_a_run_in_an_existing_process_has_only_a_first_tile() -> None:
    here = [at(5_000, StateType.PENDING), at(5_000.1, StateType.RUNNING)]
    assert stages(here, [], 5_000.6).stages == {"first_tile": pytest.approx(0.5)}


def test_a_run_without_states_has_no_stages() -> None:
    assert stages([], [BOOT], 5_000) == Startup()
    assert stages(SUBMITTED[:2], [BOOT], None).stages == {}


moments = st.floats(1, 1e9)


@given(st.lists(moments, min_size=3, max_size=3), st.lists(moments, min_size=1), moments)
def test_no_stage_is_negative_and_none_is_lost(
    three: list[float], processes: list[float], first_tile: float
) -> None:
    due, submitted, running = sorted(three)
    states = [
        at(due, StateType.SCHEDULED, scheduled=due),
        at(submitted, StateType.PENDING),
        at(running, StateType.RUNNING),
    ]
    found = stages(states, processes, first_tile).stages
    assert list(found) == ["queued", "provisioned", "python", "first_tile"]
    assert all(seconds >= 0 for seconds in found.values())
    assert sum(found.values()) == pytest.approx(max(first_tile, running) - due, abs=1e-3)


def test_the_median_of_a_stage_is_over_the_runs_that_had_it() -> None:
    some = [Startup(1, 2, 3, 4), Startup(first_tile=8), Startup(3, 4, 5, 9)]
    assert medians(some) == Startup(2, 3, 4, 8)
    assert medians([]) == Startup()
