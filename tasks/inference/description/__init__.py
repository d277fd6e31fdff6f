"""The description of a model: what goes in, what comes out, in a JSON beside its file.

The JSON follows the Machine Learning Model extension of STAC (MLM, v1.5). What MLM has no word for,
how detections are decoded, stands in one object, `swath:detector`.
"""

from tasks.inference.description.description import Description
from tasks.inference.description.load import load_description
from tasks.inference.description.prepared import Prepared

__all__ = ["Description", "Prepared", "load_description"]
