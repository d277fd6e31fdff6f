"""DETR (Carion et al., 2020, arXiv:2005.12872), RT-DETR (Zhao et al., 2023, arXiv:2304.08069)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from tasks.errors import AnswerError
from tasks.inference.description.detectors.boxes import check_scores
from tasks.inference.description.detectors.postprocessed import Postprocessed
from tasks.inference.description.head import Size, Tensors
from tasks.inference.description.mlm import Class
from tasks.inference.endpoint import Boxes


class Detr(Postprocessed):
    """DETR and RT-DETR, exported as raw queries or with post-processing.

    With `activation`, the outputs are raw queries: logits (batch, queries, classes) and boxes
    (batch, queries, 4), by default as `cxcywh` in fractions of the input's size. Without it, the
    export is post-processed, as RT-DETR's own is: labels, boxes and scores.

    Attributes:
        activation: Function from logits to scores: `softmax`, with a last column for "no object"
            (DETR); or `sigmoid`, each class independently (RT-DETR).
    """

    type: Literal["detr"]
    activation: Literal["sigmoid", "softmax"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _set_defaults_of_raw_queries(cls, data: Any) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(data, Mapping) and data.get("activation") is not None:
            return {"box_format": "cxcywh", "normalized": True} | dict(data)
        return data

    @property
    def roles(self) -> Mapping[str, int]:
        """Roles of the decoded outputs, and the number of dimensions of each."""
        return super().roles if self.activation is None else {"boxes": 3, "logits": 3}

    def decode(self, tensors: Tensors, classes: Sequence[Class], size: Size) -> list[Boxes]:
        """Decode as DETR (best class of each query) or RT-DETR (best pairs of query and class)."""
        if self.activation is None:
            return super().decode(tensors, classes, size)
        self.check_lengths(tensors)
        logits = tensors["logits"]
        columns = len(classes) + (self.activation == "softmax")
        if logits.shape[2] != columns:
            raise AnswerError(
                f"The model's logits have the shape {logits.shape[1:]}, and {self.activation} over "
                f"{len(classes)} classes needs {columns} columns; check classification:classes and "
                "swath:detector.activation."
            )
        names = [one.name for one in classes]
        return [
            self._decode_queries(*tile, names, size)
            for tile in zip(logits, tensors["boxes"], strict=True)
        ]

    def _decode_queries(
        self, logits: NDArray[Any], boxes: NDArray[Any], names: list[str], size: Size
    ) -> Boxes:
        from scipy.special import expit, softmax  # noqa: PLC0415 - slow, and for this model alone

        logits = check_scores(logits).astype(np.float64)
        if self.activation == "softmax":
            scores = softmax(logits, axis=1)[:, :-1]
            labels = scores.argmax(axis=1)
            scores = scores[np.arange(len(labels)), labels]
            queries = np.flatnonzero(scores >= self.score_threshold)
            labels, scores = labels[queries], scores[queries]
        else:
            every = expit(logits).ravel()
            best = np.argsort(-every, kind="stable")[: len(logits)]
            best = best[every[best] >= self.score_threshold]
            queries, labels = np.divmod(best, len(names))
            scores = every[best]
        return Boxes(self.in_pixels(boxes[queries], size), scores, labels, names)
