"""The whole of a description: the `properties` of a STAC Item with `mlm:…` and `swath:detector`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from tasks.inference.description.detectors.detector import DETECTOR
from tasks.inference.description.detectors.detr import Detr
from tasks.inference.description.detectors.postprocessed import Torchvision
from tasks.inference.description.detectors.yolov8 import YoloV8
from tasks.inference.description.detectors.yolox import Yolox
from tasks.inference.description.head import Head
from tasks.inference.description.mlm import Class, MlmObject, ModelOutput
from tasks.inference.description.model_input import ModelInput
from tasks.inference.description.raster_head import RASTER, RasterHead
from tasks.request.raster_output import RasterValues

AnyDetector = Annotated[Yolox | YoloV8 | Detr | Torchvision, Field(discriminator="type")]


class Properties(MlmObject):
    """The fields of the JSON that Swath uses."""

    name: str = Field(alias="mlm:name")
    inputs: tuple[ModelInput, ...] = Field(alias="mlm:input", min_length=1, max_length=1)
    outputs: tuple[ModelOutput, ...] = Field(alias="mlm:output", min_length=1)
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, alias="mlm:batch_size_suggestion"
    )
    accelerator: str | None = Field(None, alias="mlm:accelerator")
    detector: AnyDetector | None = Field(None, alias=DETECTOR, examples=[{"type": "yolox"}])
    raster: RasterHead | None = Field(None, alias=RASTER, examples=[{"values": "logits"}])

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_swath_fields(cls, data: Any) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(data, Mapping):
            for name in data:
                if name.startswith("swath:") and name not in {DETECTOR, RASTER}:
                    raise ValueError(
                        f"{name}: unknown field; Swath's own fields go in {DETECTOR} or {RASTER}"
                    )
        return data

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        if (self.detector is None) == (self.raster is None):
            raise ValueError(
                f"{DETECTOR}: give either it, for a model that finds objects, or {RASTER}, for one "
                "that answers with pixels"
            )
        named = any(output.classes for output in self.outputs)
        if not named and not (self.raster and self.raster.values is RasterValues.VALUES):
            raise ValueError(
                "mlm:output: names no classes; list them in classification:classes of an output, "
                'for example [{"value": 0, "name": "aircraft"}]'
            )
        self.head.check_channels(self.input.input.size_of("bands"))
        return self

    @property
    def head(self) -> Head:
        """How the model is called and its outputs are named."""
        head = self.detector or self.raster
        assert head is not None
        return head

    @property
    def cpu_only(self) -> bool:
        """Whether `mlm:accelerator` keeps the model on the CPU."""
        return self.accelerator in {"amd64", "cpu"}

    @property
    def input(self) -> ModelInput:
        """The one entry of `mlm:input`."""
        return self.inputs[0]

    @property
    def classes(self) -> tuple[Class, ...]:
        """The classes in the order of their values, which is the order of a tensor's columns."""
        listed = next((output.classes for output in self.outputs if output.classes), ())
        return tuple(sorted(listed, key=lambda one: one.value))
