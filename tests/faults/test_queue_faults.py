"""What becomes of a message when the queue, the sensor or Prefect fails around it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from signal import SIGTERM

import psutil
import pytest

from tests.chain import Chain, kill
from tests.faults.conftest import IMAGE, SMALL
from tests.faulty_proxy import Answer, Call, Forward, lost, status
from tests.polling import until

pytestmark = pytest.mark.slow_fault


def deletes(call: Call) -> bool:
    return call.action.endswith("DeleteMessage")


def creates(call: Call) -> bool:
    return call.method == "POST" and call.path.endswith("/create_flow_run")


@contextmanager
def deliveries(chain: Chain, job: str) -> Iterator[list[bytes]]:
    """A list that gets every delivery of a job's messages."""

    class Deliveries(list[bytes]):
        def __len__(self) -> int:
            return sum(job.encode() in answer.body for answer in answers)

    with chain.aws.recording(lambda call: call.action.endswith("ReceiveMessage")) as answers:
        yield Deliveries()


def test_01_the_same_message_twice_at_once(chain: Chain, job: str) -> None:
    model = chain.models.model()
    chain.resend(chain.send(job, model, SMALL))
    with chain.sensor(), chain.sensor():
        assert chain.await_end(job) == "SUCCESS"
        until(chain.queue_is_empty)
    assert len(chain.image_runs(job)) == 1
    assert model.figures().extra == 0


def test_02_the_same_message_again_after_success(chain: Chain, job: str) -> None:
    model = chain.models.model()
    with chain.sensor():
        body = chain.send(job, model, SMALL)
        assert chain.await_end(job) == "SUCCESS"
        calls = model.figures().total
        before = chain.features(job, SMALL)
        chain.resend(body)
        assert chain.await_end(job, times=2) == "SUCCESS"
    assert model.figures().total == calls > 0
    assert chain.features(job, SMALL) == before


def test_03_a_sensor_killed_between_creating_the_run_and_deleting_the_message(
    chain: Chain, job: str
) -> None:
    model = chain.models.model()
    chain.send(job, model, SMALL)
    with chain.aws.holding(deletes) as held, chain.sensor() as sensor:
        until(lambda: held.calls)
        sensor.kill()
        sensor.wait()
    with chain.sensor():
        assert chain.await_end(job) == "SUCCESS"
        until(chain.queue_is_empty)
    assert len(chain.image_runs(job)) == 1
    assert model.figures().extra == 0


def test_04_the_message_cannot_be_deleted(chain: Chain, job: str) -> None:
    model = chain.models.model()
    with deliveries(chain, job) as delivered, chain.sensor():
        with chain.aws.failing(deletes, status(500)):
            chain.send(job, model, SMALL)
            until(lambda: len(delivered) == 2)
        assert chain.await_end(job) == "SUCCESS"
        until(chain.queue_is_empty)
    assert len(chain.image_runs(job)) == 1
    assert model.figures().extra == 0


def test_05_the_visibility_expires_while_the_old_receipt_is_in_use(chain: Chain, job: str) -> None:
    model = chain.models.model()
    with (
        deliveries(chain, job) as delivered,
        chain.prefect.holding(creates, times=1) as held,
        chain.sensor(),
        chain.sensor(),
    ):
        chain.send(job, model, SMALL)
        until(lambda: held.calls)
        until(lambda: len(delivered) == 2)
        until(chain.queue_is_empty)
        held.go.set()
        assert chain.await_end(job) == "SUCCESS"
    assert len(chain.image_runs(job)) == 1
    assert model.figures().extra == 0
    assert chain.dead_letters() == []


def test_06_messages_that_are_no_requests(chain: Chain, job: str) -> None:
    model = chain.models.model()
    told = len(chain.statuses(""))
    with chain.sensor():
        chain.send(job, model, SMALL)
        chain.resend("not json at all")
        chain.resend("nonsense" * (256 << 7))
        chain.send(f"{job}-schema", model, SMALL, imageUrls=7)
        chain.send(f"{job}-field", model, SMALL, tileSize=512)
        chain.send(f"{job}-text", model, SMALL, featureProperties=[{"name": "\udcff"}])
        chain.send(f"{job}-after", chain.models.model(), SMALL)
        assert chain.await_end(job) == chain.await_end(f"{job}-after") == "SUCCESS"
        until(chain.queue_is_empty)
    aside = chain.dead_letters(5)
    assert len(aside) == 5
    assert all(each["reason"] for each in aside)
    for each in ("schema", "field", "text"):
        assert chain.statuses(f"{job}-{each}") == ["FAILED"]
    assert chain.statuses("")[told:] == ["FAILED"] * 2
    assert model.figures().extra == 0


def test_07_three_poison_messages_among_ten(chain: Chain, job: str) -> None:
    """One is no request, one is more than Prefect takes, and for one Prefect always fails."""
    model = chain.models.model()

    def poisoned(call: Call) -> bool:
        return creates(call) and b"poison" in call.body

    with chain.prefect.failing(poisoned, lambda *_: Answer(500)), chain.sensor():
        for number in range(7):
            chain.send(f"{job}-{number}", model, SMALL)
            match number:
                case 1:
                    chain.resend("not json at all")
                case 3:
                    large = [{"text": "x" * 600_000}]
                    chain.send(f"{job}-large", model, SMALL, featureProperties=large)
                case 5:
                    chain.send(f"{job}-poison", model, SMALL)
        for number in range(7):
            assert chain.await_end(f"{job}-{number}") == "SUCCESS"
        assert chain.await_end(f"{job}-poison") == chain.await_end(f"{job}-large") == "FAILED"
        until(chain.queue_is_empty)
    reasons = [each["reason"] for each in chain.dead_letters(3)]
    assert len(reasons) == 3
    assert any(reason.startswith("it was tried 3 times") for reason in reasons)


def test_08_the_api_of_prefect_is_down_for_a_minute(chain: Chain, job: str) -> None:
    model = chain.models.model()
    model.answer_only(9)
    with chain.sensor():
        chain.send(job, model, IMAGE)
        until(lambda: model.figures().answered == 9)
        with chain.prefect.down():
            chain.send(f"{job}-meanwhile", chain.models.model(), SMALL)
            model.answer_all()
            time.sleep(60)
        assert chain.await_end(job) == "SUCCESS"
        assert chain.await_end(f"{job}-meanwhile") == "SUCCESS"
    assert model.figures().extra == 0
    assert len(chain.image_runs(job)) == len(chain.image_runs(f"{job}-meanwhile")) == 1


def test_09_the_api_of_prefect_times_out_after_it_created_the_run(chain: Chain, job: str) -> None:
    model, tries = chain.models.model(), iter([lost, gateway_timeout])

    def fault(call: Call, forward: Forward) -> Answer | None:
        return next(tries)(call, forward)

    with chain.prefect.failing(creates, fault, times=2), chain.sensor():
        chain.send(job, model, SMALL)
        assert chain.await_end(job) == "SUCCESS"
        until(chain.queue_is_empty)
    assert next(tries, None) is None
    assert len(chain.image_runs(job)) == 1
    assert model.figures().extra == 0


def test_a_message_that_kills_each_sensor_is_told_once(chain: Chain, job: str) -> None:
    model, sensors = chain.models.model(), list[psutil.Process]()
    body = chain.send(job, model, SMALL)

    def killing(*_: object) -> None:
        kill([sensors[-1]])

    with ExitStack() as started:
        with chain.prefect.failing(creates, killing):
            while not chain.queue_is_empty():  # until SQS has moved it
                sensors.append(started.enter_context(chain.sensor(visibility=5)))
                until(lambda: not sensors[-1].is_running() or chain.queue_is_empty())
        # the last one may be telling the end: a sensor that is killed then is followed by another
        assert chain.await_end(job) == "FAILED"
        chain.send(f"{job}-next", model, SMALL)
        assert chain.await_end(f"{job}-next") == "SUCCESS"
    assert chain.statuses(job) == ["FAILED"]
    assert "no sensor was done with it" in chain.reason(job)
    (aside,) = chain.dead_letters(1)
    assert aside["body"] == body
    assert aside["reason"].startswith("it was delivered 3 times")
    assert chain.image_runs(job) == []


def gateway_timeout(_: Call, forward: Forward) -> Answer:
    """The answer of a gateway before a server that has carried out the call too slowly."""
    forward()
    return Answer(504)


def test_10_sigterm_in_the_middle_of_a_message(chain: Chain, job: str) -> None:
    model = chain.models.model()
    images = [chain.copy(SMALL, f"{name}.tif") for name in "abc"]
    with chain.sensor() as sensor, chain.prefect.holding(creates) as held:
        chain.send(job, model, *images)
        until(lambda: held.calls)
        sensor.send_signal(SIGTERM)
        sensor.wait()
    with chain.sensor():
        ends = [chain.await_end(job, times) for times in (1, 2, 3)]
        until(chain.queue_is_empty)
    assert ends == ["SUCCESS"] * 3
    named = sorted(run.parameters["image_url"].rpartition("/")[2] for run in chain.image_runs(job))
    assert named == images
    assert max(model.figures().calls.values()) == 3  # once for each image, which are the same
