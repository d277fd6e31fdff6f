"""Detectors of torchvision (Faster R-CNN, RetinaNet, FCOS, SSD, …) as they are exported."""

from __future__ import annotations

from typing import Literal

from tasks.inference.description.outputs.finished import Finished


class Torchvision(Finished):
    """Boxes, labels and scores, of a tile alone without a batch axis; 0 is the background's label.

    An export whose outputs have numbers for names says which is which in `outputs`.
    """

    type: Literal["torchvision"]
