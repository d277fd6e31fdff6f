"""Regions on a work pool whose processes, places and images fail."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.chain import Chain
from tests.faults.conftest import IMAGE
from tests.job_scene import paint
from tests.polling import until

pytestmark = pytest.mark.slow_fault

AT_A_TIME = 2
"""Regions that the deployment runs at a time."""


def test_a_region_whose_machine_hangs_is_replaced_though_its_worker_sees_nothing(
    chain: Chain, job: str, expected: list[dict[str, Any]]
) -> None:
    model = chain.models.model(job)
    model.answer_only(10)
    with chain.sensor():
        chain.send(job, model, IMAGE)
        until(lambda: model.figures().answered >= 10)
        hanging = chain.await_processes(job, of_regions=True)
        before = {run.id for run in chain.region_runs(job)}
        for process in hanging:
            process.send_signal(signal.SIGSTOP)
        model.answer_all()
        # the image's run ends while they hang
        assert chain.await_end(job) == "SUCCESS"
        for process in hanging:
            process.send_signal(signal.SIGCONT)
        until(lambda: all(run.state and run.state.is_final() for run in chain.region_runs(job)))
        until(lambda: not any(process.is_running() for process in hanging))
    replaced = [run for run in chain.region_runs(job) if run.id in before]
    assert "Cancelled" in {run.state_name for run in replaced}
    assert chain.features(job, IMAGE) == expected


def test_a_job_that_comes_later_has_a_region_at_work_before_the_first_is_through(
    chain: Chain, job: str
) -> None:
    late = f"{job}-late"
    model = chain.models.model(job)
    model.answer_only(0)
    with chain.sensor():
        chain.send(
            job, model, chain.upload(paint(chain.folder / "tall.tif", 300, 1500), "tall.tif")
        )
        until(lambda: len(chain.region_runs(job)) == AT_A_TIME + 1)
        chain.send(late, chain.models.model(late), IMAGE)
        until(lambda: chain.region_runs(late))
        model.answer_all()
        assert {chain.await_end(job), chain.await_end(late)} == {"SUCCESS"}
    first = [run.start_time for run in chain.region_runs(job) if run.start_time]
    second = [run.start_time for run in chain.region_runs(late) if run.start_time]
    assert len(first) == 5
    assert min(second) < sorted(first)[-2]
