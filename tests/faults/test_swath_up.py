"""`swath up` goes on: its parts are started again, and so is the whole with what it has kept."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.counting_model import CountingModels, counting_models
from tests.job_scene import paint
from tests.polling import until
from tests.swath_up import SwathUp, swath_up

pytestmark = pytest.mark.slow_fault
OUTAGE = 20.0  # seconds


@pytest.fixture(scope="module")
def models() -> Iterator[CountingModels]:
    with counting_models() as models:
        yield models


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwathUp]:
    folder = tmp_path_factory.mktemp("up")
    paint(folder / "small.tif")
    paint(folder / "large.tif", 2560, 2560)
    with swath_up(folder, SWATH_ENDPOINT_CONCURRENCY="8") as up:
        up.start()
        yield up


@pytest.mark.parametrize("end", [signal.SIGCONT, signal.SIGKILL], ids=lambda n: n.name)
def test_calls_go_on_while_prefect_does_not_answer(
    end: signal.Signals, up: SwathUp, models: CountingModels
) -> None:
    job = f"outage-{end.name.lower()}"
    model = models.model(job)
    model.fail("late", seconds=0.5)  # that is how long each call takes

    def answered(seconds: float) -> int:
        before = model.figures().answered
        time.sleep(seconds)
        return model.figures().answered - before

    up.submit(job, model.url, up.folder / "large.tif")
    until(lambda: model.figures().answered >= 100)
    usual = answered(OUTAGE / 2) * 2
    server = up.part("prefect")
    server.suspend()
    meanwhile = answered(OUTAGE)
    server.send_signal(end)
    up.await_state(job, "Completed")
    assert meanwhile > usual / 3
    assert model.figures().extra == 0
    assert "database is locked" not in (up.state / "stack" / "logs" / "prefect.log").read_text()


@pytest.mark.parametrize("part", ["prefect", "aws", "worker", "forks"])
def test_a_part_that_is_killed_is_started_again_and_a_job_goes_on(
    part: str, up: SwathUp, models: CountingModels
) -> None:
    before, model = up.record, models.model(part)
    model.answer_only(10)
    up.submit(part, model.url, up.folder / "small.tif")
    until(lambda: model.figures().answered >= 10)
    up.kill_part(part)
    model.answer_all()
    up.await_state(part, "Completed")
    assert up.record == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_a_stack_that_was_stopped_goes_on_with_its_jobs(
    number: signal.Signals, up: SwathUp, models: CountingModels
) -> None:
    before = up.record
    begun, taken = f"{number.name.lower()}-begun", f"{number.name.lower()}-taken"
    model = models.model(begun)
    model.answer_only(10)
    up.submit(begun, model.url, up.folder / "small.tif")
    until(lambda: model.figures().answered >= 10)
    up.submit(taken, models.model(taken).url, up.folder / "small.tif")
    until(lambda: up.runs(taken))
    up.stop(number)
    assert f"logs             {up.state / 'stack' / 'logs'}" in up.console
    if number is signal.SIGINT:
        assert "Stopping, in some seconds; the next `swath up` goes on with its jobs." in up.console
    model.answer_all()
    up.start()
    up.await_state(begun, "Completed")
    up.await_state(taken, "Completed")
    after = up.record
    assert after == before.model_copy(update={"pid": after.pid, "started": after.started})


def test_a_fresh_stack_knows_no_earlier_run(up: SwathUp, models: CountingModels) -> None:
    up.submit("fresh", models.model("fresh").url, up.folder / "small.tif")
    until(lambda: up.runs("fresh"))
    up.stop()
    up.start("--fresh")
    assert up.runs("fresh") == []
