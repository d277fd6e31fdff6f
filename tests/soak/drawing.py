"""What a soak consists of, drawn from a seed: the jobs that are sent, and the faults on the way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle, islice
from random import Random

MODELS = 3
"""Models, each with a limit on its calls of its own; several jobs share one."""


class Condition(StrEnum):
    """What is special about a job's images."""

    WHOLE = "whole images"
    PART = "a region of interest"
    REFUSED = "the model refuses a part"
    MISSING = "no such object"
    TRUNCATED = "a truncated object"


class FaultKind(StrEnum):
    """What happens to the system."""

    REGION_KILLED = "kill -9 of a region's run"
    IMAGE_KILLED = "kill -9 of an image's run"
    WORKER_KILLED = "kill -9 of the worker with all its runs"
    STACK_WORKER_KILLED = "kill -9 of the worker with all its runs, which `swath up` replaces"
    SENSOR_KILLED = "kill -9 of the sensor"
    TERMINATED = "SIGTERM to a run of a region, of an image or of the sensor"
    REGION_FROZEN = "SIGSTOP of a region's run, and SIGCONT when it counts as dead"
    IMAGE_FROZEN = "SIGSTOP of an image's run, and SIGCONT when it counts as dead"
    CANCELLED = "`swath cancel` of a job, and `swath redrive`"
    SENT_AGAIN = "a message is sent again"
    THROTTLED = "the models answer 429"
    UNAVAILABLE = "the models answer 503"
    BROKEN = "the models answer 500"
    SLOW = "the models hold their answers"
    PREFECT_STOPPED = "Prefect's server is stopped"
    AWS_STOPPED = "SQS, SNS and S3 do not answer"
    S3_FAILING = "S3 answers 503"
    STORAGE_DENIED = "S3 answers 403 for kept answers and results"
    BUCKET_MISSING = "the bucket for results does not exist"
    SNS_REFUSING = "SNS refuses every status"


OUTAGES = {
    FaultKind.THROTTLED,
    FaultKind.UNAVAILABLE,
    FaultKind.BROKEN,
    FaultKind.SLOW,
    FaultKind.PREFECT_STOPPED,
    FaultKind.AWS_STOPPED,
    FaultKind.S3_FAILING,
    FaultKind.STORAGE_DENIED,
    FaultKind.BUCKET_MISSING,
    FaultKind.SNS_REFUSING,
}
"""Kinds that last, and hit everything."""

KILLS_WORKERS = {FaultKind.WORKER_KILLED, FaultKind.STACK_WORKER_KILLED}
KILLS_IMAGES = {
    FaultKind.IMAGE_KILLED,
    FaultKind.TERMINATED,
    FaultKind.IMAGE_FROZEN,
    *KILLS_WORKERS,
}
"""Kinds that may end an image's run, and so its regions."""

POISON = (
    "not JSON",
    "[" * 50_000,
    '{"jobId": "poison", "imageUrls": []}',
    '{"jobId": "poison", "tileSize": 256}',
    "null",
    '"\\ud800"',
)
"""Messages that are no requests."""


@dataclass(frozen=True)
class Picture:
    """An image to be generated.

    Attributes:
        name: Key of its object.
        width: Pixels in x.
        height: Pixels in y.
        seed: Of its pixels.
    """

    name: str
    width: int
    height: int
    seed: int


@dataclass(frozen=True)
class Job:
    """A request.

    Attributes:
        id: Its job id.
        pictures: Its images.
        condition: What is special about them.
        model: Number of its model, below `MODELS`.
        copies: How often its message is sent at once.
    """

    id: str
    pictures: tuple[Picture, ...]
    condition: Condition
    model: int
    copies: int

    def __str__(self) -> str:
        """One line about it."""
        sizes = ", ".join(f"{p.width} × {p.height}" for p in self.pictures)
        return f"{self.id}: {sizes}, {self.condition}, model {self.model}, sent {self.copies} times"


@dataclass(frozen=True)
class Fault:
    """Something that happens on the way.

    Attributes:
        kind: What.
        at: Share of all tiles that the models have answered by then, 0 to 1.
        delay: Seconds after that moment.
        seconds: How long an outage lasts, or how much longer than a process must be silent to
            count as dead it is.
        choice: Which of those that can be hit, as a share of their list, 0 to 1.
    """

    kind: FaultKind
    at: float
    delay: float
    seconds: float
    choice: float

    def __str__(self) -> str:
        """One line about it."""
        lasts = f", for {self.seconds:.1f} s" if self.kind in OUTAGES else ""
        return f"{self.delay:.1f} s after {self.at:.0%} of the tiles: {self.kind}{lasts}"


@dataclass(frozen=True)
class Soak:
    """Everything that is drawn.

    Attributes:
        seed: It was drawn from this.
        jobs: In the order in which they are sent.
        poison: Messages that are sent between them.
        faults: By their moment.
    """

    seed: int
    jobs: tuple[Job, ...]
    poison: tuple[str, ...]
    faults: tuple[Fault, ...]


def draw(seed: int, jobs: int, faults: int) -> Soak:
    """Draw a soak; the same seed and numbers give the same.

    Args:
        seed: Seed of everything that is random.
        jobs: Number of jobs.
        faults: Number of faults: each kind once before any comes twice.
    """
    random = Random(seed)
    kinds: list[FaultKind] = []
    while len(kinds) < faults:
        kinds += random.sample(list(FaultKind), len(FaultKind))
    moments = sorted(random.uniform(0.03, 0.9) for _ in range(faults))
    return Soak(
        seed,
        tuple(_job(random, number, condition) for number, condition in _conditions(random, jobs)),
        tuple(random.sample(POISON, min(len(POISON), 1 + jobs // 10))),
        tuple(_fault(random, kind, at) for kind, at in zip(kinds, moments, strict=False)),
    )


def _conditions(random: Random, jobs: int) -> list[tuple[int, Condition]]:
    """The condition of each job: most have whole images or a region of interest."""
    usual = (Condition.WHOLE, Condition.WHOLE, Condition.PART)
    order = [*usual, Condition.REFUSED, *usual, Condition.MISSING, *usual, Condition.TRUNCATED]
    found = list(islice(cycle(order), jobs))
    random.shuffle(found)
    return list(enumerate(found))


def _job(random: Random, number: int, condition: Condition) -> Job:
    name = f"soak-{number:02}"
    pictures = tuple(
        Picture(
            f"{name}/{letter}.tif",
            random.randrange(500, 1100),
            random.randrange(500, 1200),
            random.randrange(2**31),
        )
        for letter in random.choice(["a", "a", "a", "ab"])
    )
    return Job(name, pictures, condition, random.randrange(MODELS), random.choice([1, 1, 2]))


def _fault(random: Random, kind: FaultKind, at: float) -> Fault:
    seconds = random.uniform(3, 12)
    return Fault(kind, at, random.uniform(0, 4), seconds, random.random())
