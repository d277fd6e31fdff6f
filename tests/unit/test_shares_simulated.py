"""Three owners and 200 jobs on a virtual clock: the real decisions, places and calls simulated.

Each image needs a number of calls. A model answers as many calls in a step as its limit allows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from uuid import UUID

from tasks.sharing.shares import Claim, fair_shares
from tasks.sharing.turns import Places, Turn, Waiting, Working, turns

STEP = 10.0  # seconds
PLACES = 8
WANTED = 32  # calls that an image could have in flight at a time
LIMITS = {"slow": 8, "fast": 1000}  # calls at a time; a call takes a step
CALLS = {"slow": 480, "fast": 640}  # of an image
OWNERS = ("maritime", "survey", "rescue")
QUOTA = {"survey": 3}  # places
START = 1_000_000.0


def unlimited(_: str) -> None:
    """No owner has a quota of calls."""


@dataclass
class Job:
    """An image, and what became of it."""

    id: int
    owner: str
    model: str
    priority: int
    sent: float
    begun: float | None = None
    ended: float | None = None
    left: int = 0
    calls: list[int] = field(default_factory=list)

    @property
    def wait(self) -> float:
        assert self.begun is not None
        return self.begun - self.sent


@dataclass
class Simulation:
    """The jobs, and what was seen at each step."""

    jobs: list[Job]
    now: float = START
    order: list[Job] = field(default_factory=list)
    idle: list[tuple[float, list[Turn[int]]]] = field(default_factory=list)
    taken: dict[float, Counter[str]] = field(default_factory=dict)
    models: dict[float, Counter[str]] = field(default_factory=dict)

    def run(self) -> None:
        while any(job.ended is None for job in self.jobs):
            assert self.now < START + 10 * 86400, "jobs were left"
            self._begin()
            self._call()
            self.now += STEP

    def _begin(self) -> None:
        working = [job for job in self.jobs if job.begun is not None and job.ended is None]
        full = frozenset(
            model
            for model, limit in LIMITS.items()
            if sum(job.calls[-1] for job in working if job.model == model and job.calls) >= limit
        )
        here = Places(
            PLACES,
            [Working(job.owner, job.model, job.begun or 0.0) for job in working],
            [(job.owner, job.begun or 0.0) for job in self.order[-12:]],
            full,
            frozenset(["fast"]),
            QUOTA.get,
        )
        waiting = {
            job.id: Waiting(job.id, job.owner, job.model, job.priority, job.sent)
            for job in self.jobs
            if job.begun is None and job.sent <= self.now
        }
        held: list[Turn[int]] = []
        for turn in turns(waiting.values(), here, self.now):
            if turn.reason:
                held.append(turn)
                continue
            job = self.jobs[turn.job.id]
            assert job.begun is None, "it began twice"
            job.begun, job.left = self.now, CALLS[job.model]
            self.order.append(job)
            working.append(job)
        assert len(working) <= PLACES
        if len(working) < PLACES:
            self.idle.append((self.now, held))
        self.taken[self.now] = Counter(job.owner for job in working)
        self.models[self.now] = Counter(job.model for job in working)

    def _call(self) -> None:
        working = [job for job in self.order if job.ended is None]
        for model, limit in LIMITS.items():
            claims = [
                Claim(UUID(int=job.id), UUID(int=job.id), WANTED, job.owner, job.priority)
                for job in working
                if job.model == model
            ]
            for region, slots in fair_shares(limit, claims, unlimited).items():
                job = self.jobs[region.int]
                job.calls.append(slots)
                job.left -= slots
                if job.left <= 0:
                    job.ended = self.now + STEP


@cache
def simulated() -> Simulation:
    jobs: list[Job] = []

    def send(number: int, owner: str, model: str, priority: int = 0, at: float = 0.0) -> None:
        for _ in range(number):
            jobs.append(Job(len(jobs), owner, model, priority, START + at))

    send(79, "maritime", "fast")
    send(1, "maritime", "fast", priority=-100)
    send(30, "maritime", "slow")
    send(40, "survey", "fast")
    send(5, "survey", "slow")
    send(39, "rescue", "fast")
    send(5, "rescue", "slow")
    send(1, "rescue", "fast", priority=50, at=600.0)
    assert len(jobs) == 200
    simulation = Simulation(jobs)
    simulation.run()
    return simulation


def chosen(owner: str, model: str | None = None, priority: int = 0) -> list[Job]:
    return [
        job
        for job in simulated().jobs
        if job.owner == owner and model in {None, job.model} and job.priority == priority
    ]


def test_every_job_begins_once_and_ends() -> None:
    assert sorted(job.id for job in simulated().order) == [*range(200)]


def test_the_urgent_job_has_the_next_place() -> None:
    (urgent,) = chosen("rescue", priority=50)
    between = [job for job in simulated().order if urgent.sent < (job.begun or 0) < urgent.begun]  # type: ignore[operator]
    assert between == []
    assert urgent.wait <= 30 * STEP


def test_owners_that_have_images_waiting_have_equal_places_within_their_quotas() -> None:
    """While each has images of both models waiting."""
    begin = START + 300.0
    end = min(max(job.begun or 0 for job in chosen(owner, "fast")) for owner in OWNERS)
    seconds = Counter[str]()
    for now, taken in simulated().taken.items():
        assert taken["survey"] <= QUOTA["survey"]
        if begin <= now < end:
            seconds += Counter({owner: int(STEP) * number for owner, number in taken.items()})
    shares = {owner: each / sum(seconds.values()) for owner, each in seconds.items()}
    assert all(0.22 <= share <= 0.45 for share in shares.values()), shares


def test_an_owner_with_few_jobs_does_not_wait_for_those_of_an_owner_with_many() -> None:
    waits = [job.wait for job in chosen("rescue", "fast")]
    others = [job.wait for job in chosen("maritime", "fast")]
    assert sum(waits) / len(waits) < 0.5 * sum(others) / len(others)
    assert min(waits) <= 30 * STEP


def test_the_jobs_of_a_slow_model_leave_places_to_those_of_an_idle_one() -> None:
    last = max(job.begun or 0 for job in simulated().jobs if job.model == "fast")
    settled = [models["slow"] for now, models in simulated().models.items() if now > START]
    assert max(settled) < PLACES
    fast = [models["fast"] for now, models in simulated().models.items() if START + 60 < now < last]
    assert min(fast) >= 1
    # half of the places, but for an image of each of the other owners
    assert sum(fast) / len(fast) >= PLACES / 2 - 2


def test_no_place_is_idle_while_an_image_may_have_it() -> None:
    for now, held in simulated().idle:
        for turn in held:
            assert "its model" in turn.reason or "QUOTAS" in turn.reason, (now, turn)


def test_the_slow_model_is_kept_busy_to_its_last_job() -> None:
    """It takes no longer than one image after another would, without any pause between them."""
    slow = [job for job in simulated().jobs if job.model == "slow"]
    end = max(job.ended or 0 for job in slow)
    least = len(slow) * CALLS["slow"] / LIMITS["slow"] * STEP
    assert end - START <= 1.25 * least


def test_the_lowest_priority_is_not_starved() -> None:
    (lowest,) = chosen("maritime", "fast", priority=-100)
    assert lowest.ended is not None
    assert lowest.begun == max(job.begun or 0 for job in [*chosen("maritime", "fast"), lowest])


def test_an_image_of_a_higher_priority_makes_more_calls_than_others_of_its_model() -> None:
    claims = [
        Claim(UUID(int=number), UUID(int=number), WANTED, "rescue", priority)
        for number, priority in enumerate([0, 50, 0, 0])
    ]
    shares = fair_shares(LIMITS["slow"], claims, unlimited)
    assert [shares[claim.region] for claim in claims] == [1, 5, 1, 1]
