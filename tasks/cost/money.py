"""What a usage costs, by the operator's prices: the one place where it is computed."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, computed_field

from tasks.cost.usage import Usage
from tasks.prices import Prices
from tasks.settings import settings

_HOUR = 3600.0  # seconds
_GB = 1e9  # bytes


class Cost(BaseModel):
    """What a usage costs.

    Attributes:
        currency: The currency of the prices.
        calls: Of calls of the model.
        instances: Of the instances of its endpoint.
        vcpu: Of processor time.
        read: Of bytes read.
        stored: Of bytes stored.
        total: The sum.
    """

    model_config = ConfigDict(frozen=True)

    currency: str
    calls: float = 0.0
    instances: float = 0.0
    vcpu: float = 0.0
    read: float = 0.0
    stored: float = 0.0

    @computed_field  # type: ignore[prop-decorator] # as pydantic documents it
    @property
    def total(self) -> float:
        """The sum of all parts."""
        return self.calls + self.instances + self.vcpu + self.read + self.stored

    @property
    def text(self) -> str:
        """The sum with its currency."""
        return money_text(self.total, self.currency)

    @property
    def parts_text(self) -> str:
        """The parts that are above 0, in one line; empty if there are none."""
        names = {
            "model calls": self.calls,
            "endpoint": self.instances,
            "vCPU": self.vcpu,
            "reading": self.read,
            "storing": self.stored,
        }
        return ", ".join(
            f"{name} {money_text(each, self.currency)}" for name, each in names.items() if each
        )


def cost_of(usage: Usage, model: Iterable[str], prices: Prices | None = None) -> Cost | None:
    """What a usage of a model costs.

    The endpoint's instances cost for the seconds of the job in which the model was called at all:
    kept answers cost nothing again.

    Args:
        usage: What was used.
        model: The names of the model, as `Prices.of_model`.
        prices: The prices; None for those of the operator.

    Returns:
        The cost; None if the operator has set no prices.
    """
    prices = prices or settings().prices
    if prices is None:
        return None
    price = prices.of_model(model)
    held = usage.seconds / _HOUR if usage.calls else 0.0
    return Cost(
        currency=prices.currency,
        calls=usage.calls * price.call,
        instances=held * price.instance_hour * price.instances,
        vcpu=usage.cpu_seconds / _HOUR * prices.vcpu_hour,
        read=usage.bytes_read / _GB * prices.gb_read,
        stored=usage.bytes_stored / _GB * prices.gb_stored,
    )


def money_text(amount: float, currency: str) -> str:
    """An amount of money as text: with cents, and below one with three digits."""
    if amount >= 1 or amount == 0:
        return f"{amount:,.2f} {currency}"
    return f"{amount:.3g} {currency}"
