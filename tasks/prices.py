"""What a job's use of machines, models and storage costs: the prices of an operator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel

_Price = Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]


class ModelPrice(BaseModel):
    """The price of a model.

    Attributes:
        call: Of a call of the model; failed calls cost the same.
        instance_hour: Of one instance of its endpoint for an hour.
        instances: Instances of the endpoint that a job keeps busy.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True
    )

    call: _Price = 0.0
    instance_hour: _Price = 0.0
    instances: PositiveInt = 1

    @model_validator(mode="after")
    def _instances_have_a_price(self) -> Self:
        if "instances" in self.model_fields_set and "instance_hour" not in self.model_fields_set:
            raise ValueError(
                f"instances: {self.instances} of them cost nothing without instanceHour; give the "
                "price of one for an hour there, or leave both out"
            )
        return self


def _without_spaces(name: str) -> str:
    if name.split() != [name]:
        raise ValueError("has a space; give a name without one, such as EUR")
    return name


class Prices(ModelPrice):
    """The prices of an operator, all in one currency; what has no price costs nothing.

    `call`, `instance_hour` and `instances` are those of every model that is not in `models`.

    Attributes:
        currency: Name of the currency, as it is shown.
        vcpu_hour: Of an hour of processor time.
        gb_read: Of 10⁹ bytes read of images.
        gb_stored: Of 10⁹ bytes stored: published files and kept answers.
        models: The price of single models, by the name in the request or its last part.
    """

    currency: Annotated[
        str, StringConstraints(min_length=1, max_length=16), AfterValidator(_without_spaces)
    ] = "USD"
    vcpu_hour: _Price = 0.0
    gb_read: _Price = 0.0
    gb_stored: _Price = 0.0
    models: dict[str, ModelPrice] = Field(default_factory=dict)

    def of_model(self, names: Iterable[str]) -> ModelPrice:
        """The price of a model.

        Args:
            names: Its names; the first that has a price counts.
        """
        return next((self.models[name] for name in names if name in self.models), self)
