"""The whole of a description: the `properties` of a STAC Item with `mlm:…` and `swath:detector`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PositiveFloat, model_validator

from tasks.inference.description.detectors.detector import DETECTOR
from tasks.inference.description.detectors.detr import Detr
from tasks.inference.description.detectors.instances import MaskRcnn, YoloV8Masks
from tasks.inference.description.detectors.postprocessed import Torchvision
from tasks.inference.description.detectors.yolov8 import YoloV8, YoloV8Obb
from tasks.inference.description.detectors.yolox import Yolox
from tasks.inference.description.head import Head
from tasks.inference.description.mlm import Class, MlmObject, ModelOutput
from tasks.inference.description.mlm_tasks import (
    INSTANCES,
    OBJECTS,
    RASTER_TASKS,
    listed,
    tasks_for,
    tile_tasks_for,
    tile_values_of,
    values_of,
)
from tasks.inference.description.model_input import ModelInput
from tasks.inference.description.raster_head import RASTER, RasterHead
from tasks.inference.description.tile_head import TILE, TileHead
from tasks.request.raster_output import RasterValues

AnyDetector = Annotated[
    Yolox | YoloV8 | YoloV8Obb | YoloV8Masks | Detr | Torchvision | MaskRcnn,
    Field(discriminator="type"),
]


class Properties(MlmObject):
    """The fields of the JSON that Swath uses."""

    name: str = Field(alias="mlm:name")
    tasks: tuple[str, ...] = Field((), alias="mlm:tasks", examples=[["semantic-segmentation"]])
    inputs: tuple[ModelInput, ...] = Field(alias="mlm:input", min_length=1, max_length=1)
    outputs: tuple[ModelOutput, ...] = Field(alias="mlm:output", min_length=1)
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, alias="mlm:batch_size_suggestion"
    )
    accelerator: str | None = Field(None, alias="mlm:accelerator")
    detector: AnyDetector | None = Field(None, alias=DETECTOR, examples=[{"type": "yolox"}])
    raster: RasterHead | None = Field(None, alias=RASTER, examples=[{"values": "logits"}])
    tile: TileHead | None = Field(None, alias=TILE, examples=[{"values": "logits"}])

    gsd: PositiveFloat | None = Field(None, exclude_if=lambda value: value is None)
    spatial_resolution: PositiveFloat | None = Field(
        None, alias="raster:spatial_resolution", exclude_if=lambda value: value is None
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_swath_fields(cls, data: Any) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(data, Mapping):
            for name in data:
                if name.startswith("swath:") and name not in {DETECTOR, RASTER, TILE}:
                    raise ValueError(
                        f"{name}: unknown field; Swath's own fields go in {DETECTOR}, {RASTER} or "
                        f"{TILE}"
                    )
        return data

    @model_validator(mode="before")
    @classmethod
    def _complete_head(cls, data: Any) -> Any:  # noqa: ANN401 - any JSON
        """What the task says of whole tiles or of pixels is not repeated in Swath's own field."""
        if not isinstance(data, Mapping) or not isinstance(data.get("mlm:tasks"), list):
            return data
        tasks = [task for task in data["mlm:tasks"] if isinstance(task, str)]
        finds_objects = not (OBJECTS | INSTANCES).isdisjoint(tasks)
        completed = dict(data)
        for name, values in ((TILE, tile_values_of(tasks)), (RASTER, values_of(tasks))):
            head = completed.get(name)
            others = any(
                completed.get(other) is not None for other in {DETECTOR, RASTER, TILE} - {name}
            )
            if values is None or (head is None and (others or finds_objects)):
                continue
            if isinstance(head, Mapping | None):
                completed[name] = {"values": values} | dict(head or {})
        return completed

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        heads = [head for head in (self.detector, self.raster, self.tile) if head is not None]
        if len(heads) != 1:
            problem = "give only one of it" if heads else "missing; give it"
            raise ValueError(
                f"{DETECTOR}: {problem}, for a model that finds objects, {RASTER}, for one that "
                f"answers with pixels, or {TILE}, for one that answers about whole tiles"
            )
        self._check_tasks()
        if self.tile is not None:
            self.tile.check_size()
        if not self.classes and not self._has_values:
            raise ValueError(
                "mlm:output: names no classes; list them in classification:classes of an output, "
                'for example [{"value": 0, "name": "aircraft"}]'
            )
        self.head.check_channels(self.input.input.size_of("bands"))
        if self.raster is not None:
            self.raster.check_classes(self.classes)
        return self

    def _check_tasks(self) -> None:
        """Check that `mlm:tasks`, if it is given, is what Swath's own field says."""
        if self.raster is not None:
            values = self.raster.values
            fitting, says = tasks_for(values), f"{RASTER}.values: is {values}"
        elif self.tile is not None:
            fitting = tile_tasks_for(self.tile.values)
            says = f"{TILE}.values: is {self.tile.values}"
        elif self.detector is not None and self.detector.segments:
            fitting = INSTANCES | OBJECTS
            says = f"{DETECTOR}.type: {self.detector.type} segments instances"
        else:
            fitting, says = OBJECTS, f"{DETECTOR}: is for models that find objects"
        if self.tasks and fitting.isdisjoint(self.tasks):
            raise ValueError(
                f"{says}, and mlm:tasks is {', '.join(self.tasks)}; give {listed(fitting)} there, "
                f"or {self._fitting_head()}"
            )

    def _fitting_head(self) -> str:
        """What goes with `mlm:tasks` in place of Swath's own field, for the error about it."""
        if not INSTANCES.isdisjoint(self.tasks):
            return f"a {DETECTOR} with masks (yolov8-seg, mask-rcnn)"
        if not OBJECTS.isdisjoint(self.tasks):
            return f"{DETECTOR} in its place"
        field = TILE if RASTER_TASKS.isdisjoint(self.tasks) else RASTER
        return "other values" if field == self.head.field else f"{field} in its place"

    @property
    def head(self) -> Head:
        """How the model is called and its outputs are named."""
        head = self.detector or self.raster or self.tile
        assert head is not None
        return head

    @property
    def resolution(self) -> float | None:
        """Metres a pixel that the model was trained at; None if it is not said."""
        return self.spatial_resolution or self.gsd

    @property
    def cpu_only(self) -> bool:
        """Whether `mlm:accelerator` keeps the model on the CPU."""
        return self.accelerator in {"amd64", "cpu"}

    @property
    def input(self) -> ModelInput:
        """The one entry of `mlm:input`."""
        return self.inputs[0]

    @property
    def output_names(self) -> list[str | None]:
        """The names in `mlm:output`, that of the output with the pixels first."""
        first = self._decoded
        return [first.name, *(output.name for output in self.outputs if output is not first)]

    @property
    def classes(self) -> tuple[Class, ...]:
        """The classes in the order of their values, which is the order of a tensor's columns."""
        if self._has_values:
            return ()
        given = (output.classes for output in (self._decoded, *self.outputs) if output.classes)
        return tuple(sorted(next(given, ()), key=lambda one: one.value))

    @property
    def _has_values(self) -> bool:
        """Whether the output holds numbers, not classes."""
        if self.tile is not None:
            return self.tile.is_embedding
        return self.raster is not None and self.raster.values is RasterValues.VALUES

    @property
    def _decoded(self) -> ModelOutput:
        """The output that is decoded: the first whose task says so, if any does."""
        tasks = OBJECTS | INSTANCES
        if self.raster is not None:
            tasks = tasks_for(self.raster.values)
        elif self.tile is not None:
            tasks = tile_tasks_for(self.tile.values)
        fitting = (output for output in self.outputs if not tasks.isdisjoint(output.tasks))
        return next(fitting, self.outputs[0])
