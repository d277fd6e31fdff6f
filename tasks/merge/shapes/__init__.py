"""The area that each detection covers, in a form that makes the overlap of two fast to compute."""

from tasks.merge.shapes.from_detections import BUFFER, shapes_of
from tasks.merge.shapes.shapes import Shapes

__all__ = ["BUFFER", "Shapes", "shapes_of"]
