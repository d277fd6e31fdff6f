"""Which of the images that wait begins next, and why the others wait.

The order depends on nothing but what is given, so every process that looks at the same runs comes
to the same one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tasks.sharing.shares import Quota

HEAD_START = 3600.0
"""Seconds of waiting that a point of priority counts for, among the jobs of one owner."""

SETTLED = 60.0
"""Seconds after which an image at work makes all the calls that its model takes from it."""

_FEW = 2  # places, of which none is kept free until a model is known to be busy
_LONG_AGO = float("-inf")

Id = TypeVar("Id", bound=Hashable)


@dataclass(frozen=True)
class Waiting(Generic[Id]):
    """An image that waits to begin.

    Attributes:
        id: Of its run.
        owner: Whose job it is; empty if nobody is named.
        model: The endpoint that it calls, as the limit of its calls is named.
        priority: That of its job.
        since: When it began to wait, in seconds of any clock that all share.
        name: As users know it.
    """

    id: Id
    owner: str
    model: str
    priority: int
    since: float
    name: str = ""


@dataclass(frozen=True)
class Working:
    """An image that has a place: it is at work, or about to begin.

    Attributes:
        owner: Whose job it is.
        model: The endpoint that it calls.
        since: When it got its place.
    """

    owner: str
    model: str
    since: float


@dataclass(frozen=True)
class Places:
    """The places for images, and who has them.

    Attributes:
        number: Images that may be at work at a time; None without a limit.
        working: Those that have a place.
        begun: Owner and time of the images that began last, those at work among them.
        full: The models that are called as often as their limits allow.
        brief: The models whose images give back their places soon.
        quota: Images of an owner that may be at work at a time.
    """

    number: int | None
    working: Sequence[Working]
    begun: Sequence[tuple[str, float]]
    full: frozenset[str]
    brief: frozenset[str]
    quota: Quota


@dataclass(frozen=True)
class Turn(Generic[Id]):
    """What is decided of an image that waits.

    Attributes:
        job: The image.
        reason: Why it waits; empty if it begins now.
    """

    job: Waiting[Id]
    reason: str


def turns(waiting: Iterable[Waiting[Id]], places: Places, now: float) -> Iterator[Turn[Id]]:
    """The images that wait, in the order in which they will begin; those that begin now come first.

    The next place goes

    1. to an owner without an image at work who was passed over too often: since its last image
       began, or since it waits, twice as many images of others have begun as there are owners. So
       each owner gets a share, whatever the priorities of others;
    2. then to the image of the highest priority among the first of each owner;
    3. of equal priorities, to the owner with the fewest images at work, then to the one whose last
       image began longest ago.

    Of the images of one owner, the one that waits longest comes first, and a point of priority
    counts as an hour of waiting: so none waits for ever.

    Images of an owner who has its quota wait. A model gets more than half of the places, one after
    the other, only if it takes more calls than it gets, or if its images end soon: the others would
    hold places without need. An owner who has no image at work for it may have one there, but not
    in the last place.
    """
    queues = _queues(waiting)
    state = _State(places, queues, now)
    free = None if places.number is None else places.number - len(places.working)
    ahead, held = 0, list[Turn[Id]]()
    while queues:
        held += _hold_back(queues, state)
        if not queues:
            break
        owner = min(queues, key=lambda owner: state.rank(owner, queues[owner][-1]))
        job = queues[owner].pop()
        if not queues[owner]:
            del queues[owner]
        state.begin(job)
        if free is None or ahead < free:
            yield Turn(job, "")
        else:
            yield Turn(job, _for_a_place(places, ahead - max(0, free)))
        ahead += 1
    yield from sorted(held, key=lambda turn: (turn.job.since, str(turn.job.id)))


def _for_a_place(places: Places, ahead: int) -> str:
    before = "it is next" if ahead == 0 else f"{_images(ahead)} before it"
    return f"waits until fewer than {places.number} images run: {before}"


def _images(number: int) -> str:
    return f"{number} image{'' if number == 1 else 's'}"


def _queues(waiting: Iterable[Waiting[Id]]) -> dict[str, list[Waiting[Id]]]:
    """The images by owner; the next one of each is the last in its list."""
    queues: dict[str, list[Waiting[Id]]] = {}
    for job in waiting:
        queues.setdefault(job.owner, []).append(job)
    for jobs in queues.values():
        jobs.sort(key=_position, reverse=True)
    return queues


def _position(job: Waiting[Id]) -> tuple[float, str]:
    """The lowest is the next of its owner."""
    return (job.since - HEAD_START * job.priority, str(job.id))


def _hold_back(queues: dict[str, list[Waiting[Id]]], state: _State) -> Iterator[Turn[Id]]:
    """Take out the images that may not begin, whatever place is free, until each owner's next may.

    Images that begin take places of their owner and model, so one that is held back stays so.
    """
    for owner in list(queues):
        jobs = queues[owner]
        while jobs and (reason := state.reason_held(jobs[-1])):
            yield Turn(jobs.pop(), reason)
        if not jobs:
            del queues[owner]


class _State:
    """Who has how many places, and who was passed over how often, while places are given out."""

    def __init__(
        self, places: Places, queues: Mapping[str, Sequence[Waiting[Id]]], now: float
    ) -> None:
        self._places, self._now, self._time = places, now, now
        self._of_owner = Counter(job.owner for job in places.working)
        self._of_model = Counter(job.model for job in places.working)
        self._of_both = Counter((job.owner, job.model) for job in places.working)
        self._last: dict[str, float] = {}
        for owner, at in places.begun:
            self._last[owner] = max(at, self._last.get(owner, _LONG_AGO))
        owners = {*queues, *self._of_owner}
        self._most_passes = 2 * len(owners)
        self._passed = {
            owner: self._passes(owner, min(job.since for job in jobs))
            for owner, jobs in queues.items()
        }
        self._youngest: dict[str, float] = {}
        for job in places.working:
            self._note(job.model, job.since)

    def _note(self, model: str, since: float) -> None:
        self._youngest[model] = max(since, self._youngest.get(model, _LONG_AGO))

    def _passes(self, owner: str, since: float) -> int:
        """Images of others that began since the owner's last one began, or since it waits."""
        start = max(since, self._last.get(owner, _LONG_AGO))
        return sum(other != owner and at > start for other, at in self._places.begun)

    def rank(self, owner: str, job: Waiting[Id]) -> tuple[object, ...]:
        """The lowest is next."""
        last = self._last.get(owner, _LONG_AGO)
        if not self._of_owner[owner] and self._passed[owner] >= self._most_passes:
            return (0, last, job.since, str(job.id))
        return (1, -job.priority, self._of_owner[owner], last, job.since, str(job.id))

    def begin(self, job: Waiting[Id]) -> None:
        """Count an image as one that has a place."""
        self._of_owner[job.owner] += 1
        self._of_model[job.model] += 1
        self._of_both[job.owner, job.model] += 1
        self._time += 1e-3  # later than all before
        self._last[job.owner] = self._time
        self._note(job.model, self._time)
        for owner in self._passed:
            self._passed[owner] += 1
        self._passed[job.owner] = 0

    def reason_held(self, job: Waiting[Id]) -> str:
        """Why an image may not begin although a place may be free; empty if it may."""
        quota, of_owner = self._places.quota(job.owner), self._of_owner[job.owner]
        if quota is not None and of_owner >= quota:
            whose = f"owner {job.owner!r}" if job.owner else "jobs without an owner"
            return f"waits as {whose} may have {_images(quota)} at work (SWATH_OWNER_QUOTAS)"
        number = self._places.number
        if number is None or job.model in self._places.brief:
            return ""
        return self._reason_of_model(job, number)

    def _reason_of_model(self, job: Waiting[Id], number: int) -> str:
        """Why an image may not have one of a number of places because of others of its model."""
        of_model = self._of_model[job.model]
        most = (number + 1) // 2
        if not self._of_both[job.owner, job.model]:
            most = max(most, number - 1)
        if of_model < most:
            return ""
        settled = self._now - self._youngest[job.model] >= SETTLED
        if not settled and number <= _FEW:
            return ""
        if job.model in self._places.full:
            return f"waits as its model is busy with {_images(of_model)}: all its calls are taken"
        if not settled:
            return "waits until it is seen whether its model takes calls of yet another image"
        return ""
