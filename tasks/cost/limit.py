"""The limit that a request sets to what its job may cost, over all processes that work it.

One object has what the job has spent, and every process adds to it before it asks the model, on
condition that nobody else has changed the object meanwhile. So no more tiles are asked for than
`maxTiles`, however many regions and images are worked at a time. Money is spent as it is used:
beyond `maxCost` there is at most what calls in flight, and the reading ahead, still use.

A process takes several tiles at once, fewer as the limit is near, and gives back what it did not
use. What a killed process took and did not use stays taken.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from pydantic import BaseModel, Field

from tasks.cost.meter import Meter
from tasks.cost.money import cost_of, money_text
from tasks.cost.usage import Usage
from tasks.errors import LimitReachedError, PublishError
from tasks.settings import settings
from tasks.storage import conditional, objects

logger = logging.getLogger(__name__)

_MOST_TILES = 64  # that a process takes at once
_ROUNDING = 1e-9  # of the limit: sums of prices are not exact
_SHARE = 16  # of what is left that a process takes at once: one part in so many


class Spent(BaseModel):
    """What a job has spent.

    Attributes:
        tiles: Tiles that were asked for, or are about to be.
        cost: Money that was spent, or is about to be.
        paid_until: Until when the endpoint's instances are paid for each image, in seconds since
            1970.
    """

    tiles: int = 0
    cost: float = 0.0
    paid_until: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    """What a job may spend.

    Attributes:
        max_tiles: Tiles that the model is asked for; None without a limit.
        max_cost: Money, in the currency of the prices; None without a limit.
    """

    max_tiles: int | None = None
    max_cost: float | None = None

    def __bool__(self) -> bool:
        """Whether there is a limit."""
        return self.max_tiles is not None or self.max_cost is not None


class Spending:
    """What this process spends of a job's limit, for one image.

    Attributes:
        reached: Why no further tile is asked for; empty while tiles may be.
    """

    def __init__(
        self,
        limit: Limit,
        folder: str,
        meter: Meter,
        *,
        image: str,
        model: Sequence[str],
        views: int = 1,
    ) -> None:
        """Spend nothing yet.

        Args:
            limit: The limit of the job; without one, nothing is counted.
            folder: Folder or s3:// prefix of what the job has spent.
            meter: Counts what this process uses for the image.
            image: The image.
            model: The names of the model, as in `cost_of`.
            views: Calls that a tile takes without failures.
        """
        self.reached = ""
        self._limit, self._image, self._model = limit, image, model
        self._uri, self._meter, self._views = objects.join(folder, "spent.json"), meter, views
        self._prices = settings().prices  # calls are made in threads with other settings
        self._lock = Lock()
        self._taken = self._left = 0  # tiles: begun, and that may still begin
        self._told = 0.0  # money of this process that the object has

    def begin(self) -> None:
        """Pay for the endpoint's instances from now on: the image's run begins to ask.

        Raises:
            PublishError: The store does not answer.
        """
        if self._limit.max_cost is not None:
            self._change(lambda spent: self._with_clock(spent, time.time()))

    def take(self, tiles: int) -> None:
        """Spend what asking for tiles costs.

        Raises:
            LimitReachedError: They may not be asked for.
            PublishError: The store does not answer.
        """
        if not self._limit:
            return
        with self._lock:
            while self._left < tiles and not self.reached:
                self._reserve()
            if self._left < tiles:
                raise LimitReachedError(self.reached)
            self._left -= tiles
            self._taken += tiles

    def close(self) -> None:
        """Give back what was taken and not used, and tell what was used; an error is logged."""
        if not self._limit:
            return
        self._meter.count_cpu()
        with self._lock:
            unused, self._left = self._left, 0
            new = self._money(0)
            told, self._told = self._told, new

            def change(spent: Spent) -> Spent:
                update = {"tiles": spent.tiles - unused, "cost": spent.cost + new - told}
                return spent.model_copy(update=update)

            try:
                if unused or new != told:
                    self._change(change)
            except PublishError as error:
                logger.warning("What a job may still spend is less than it has left: %s", error)

    def _reserve(self) -> None:
        """Take further tiles, or set `reached`."""
        self._meter.count_cpu()
        granted, told = 0, self._told

        def change(spent: Spent) -> Spent:
            nonlocal granted, told
            spent = self._with_clock(spent, time.time(), paying=True)
            granted = self._grant(spent)
            told = self._money(self._left + granted)
            cost = spent.cost + told - self._told
            # what was used is told also where nothing is granted, for the other processes
            return spent.model_copy(update={"tiles": spent.tiles + granted, "cost": cost})

        self._change(change)
        self._told = told
        self._left += granted

    def _grant(self, spent: Spent) -> int:
        """How many further tiles may be asked for; if fewer than one, `reached` is set."""
        most = _MOST_TILES
        if self._limit.max_tiles is not None:
            left = self._limit.max_tiles - spent.tiles
            if left <= 0:
                self.reached = (
                    f"maxTiles: {self._limit.max_tiles} tiles were asked for, as many as the job "
                    "may; send it again with a greater one, which asks for the rest alone"
                )
                return 0
            most = min(most, max(1, left // _SHARE), left)
        if self._limit.max_cost is not None:
            money = self._limit.max_cost - spent.cost - self._money(self._left) + self._told
            call = self._money(1) - self._money(0)
            if money <= 0 or call > money + _ROUNDING * self._limit.max_cost:
                currency = self._prices.currency if self._prices else ""
                self.reached = (
                    f"maxCost: the {money_text(self._limit.max_cost, currency)} of the job are "
                    "spent; send it again with a greater one, which asks for the rest alone"
                )
                return 0
            # where calls have no price, or not the only one: what a tile has cost so far
            tile = max(call, spent.cost / spent.tiles if spent.tiles else 0.0)
            if tile:
                most = min(most, max(1, int(money / tile) // _SHARE))
        return most

    def _money(self, reserved: int) -> float:
        """What this process has spent, with so many tiles that are still to be asked for.

        Without the endpoint's instances, which the images' clocks count.
        """
        used = self._meter.total
        calls = max(used.calls, self._views * self._taken) + self._views * reserved
        found = cost_of(
            used.model_copy(update={"calls": calls, "seconds": 0.0}), self._model, self._prices
        )
        return found.total if found else 0.0

    def _with_clock(self, spent: Spent, now: float, *, paying: bool = False) -> Spent:
        """What is spent once the endpoint's instances are paid until now."""
        if self._limit.max_cost is None:
            return spent
        cost = spent.cost
        if paying:
            seconds = max(0.0, now - spent.paid_until.get(self._image, now))
            found = cost_of(Usage(calls=1, seconds=seconds), self._model, self._prices)
            cost += found.instances if found else 0.0
        clocks = spent.paid_until | {self._image: now}
        return spent.model_copy(update={"cost": cost, "paid_until": clocks})

    def _change(self, change: Callable[[Spent], Spent]) -> None:
        """Change the object, beginning anew as often as others change it meanwhile."""
        while True:
            found = conditional.read(self._uri)
            spent = Spent.model_validate_json(found[0]) if found else Spent()
            new = change(spent)
            if new == spent:
                return
            if conditional.put_if(self._uri, new.model_dump_json().encode(), found and found[1]):
                return
