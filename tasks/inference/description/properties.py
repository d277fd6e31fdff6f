"""The properties of a model's STAC Item: MLM's words, and `swath:detector`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from tasks.inference.description.mlm import Class, ModelInput, ModelOutput
from tasks.inference.description.outputs.detr import Detr
from tasks.inference.description.outputs.torchvision import Torchvision
from tasks.inference.description.outputs.yolov8 import YoloV8
from tasks.inference.description.outputs.yolox import Yolox
from tasks.inference.description.words import Words

OURS = "swath:detector"

AnyDetector = Annotated[Yolox | YoloV8 | Detr | Torchvision, Field(discriminator="type")]


class Properties(Words):
    """What the JSON beside a model says, as far as Swath follows it."""

    name: str = Field(alias="mlm:name")
    inputs: tuple[ModelInput, ...] = Field(alias="mlm:input", min_length=1, max_length=1)
    outputs: tuple[ModelOutput, ...] = Field(alias="mlm:output", min_length=1)
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, alias="mlm:batch_size_suggestion"
    )
    accelerator: str | None = Field(None, alias="mlm:accelerator")
    detector: AnyDetector = Field(alias=OURS, examples=[{"type": "yolox"}])

    @model_validator(mode="before")
    @classmethod
    def _ours_alone(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the JSON holds
        if isinstance(data, Mapping):
            for name in data:
                if name.startswith("swath:") and name != OURS:
                    raise ValueError(f"{name}: unknown field; Swath's own go into {OURS}")
        return data

    @field_validator("outputs")
    @classmethod
    def _with_classes(cls, outputs: tuple[ModelOutput, ...]) -> tuple[ModelOutput, ...]:
        if not any(output.classes for output in outputs):
            raise ValueError(
                "names no classes; list them in classification:classes of an output, for example "
                '[{"value": 0, "name": "aircraft"}]'
            )
        return outputs

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        channels = self.input.input.size_of("bands")
        self.detector.check_channels(channels)
        return self

    @property
    def cpu_only(self) -> bool:
        """Whether it says that the model runs on no accelerator."""
        return self.accelerator in {"amd64", "cpu"}

    @property
    def input(self) -> ModelInput:
        """The one input that is made of a tile."""
        return self.inputs[0]

    @property
    def classes(self) -> tuple[Class, ...]:
        """The classes in the order of their values, which is that of a tensor's columns."""
        listed = next(output.classes for output in self.outputs if output.classes)
        return tuple(sorted(listed, key=lambda one: one.value))
