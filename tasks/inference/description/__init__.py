"""The description of a model's inputs and outputs (ONNX, OIP), from a JSON file.

The JSON follows the STAC Machine Learning Model extension (MLM, v1.5). MLM does not describe how
detections are decoded, nor what pixels hold; an additional object, `swath:detector` or
`swath:raster`, does.

    load.py, properties.py            reads the JSON; its schema is in mlm.py, mlm_tasks.py,
                                      model_input.py, value_scaling.py, detectors/ and
                                      raster_head.py
    description.py                    `Description`: the two steps below for one model
    preprocessing/                    a tile's pixels to the model's input tensor
    detectors/                        the model's output tensors to boxes, a module per family
    raster_head.py                    the model's output tensor to a map of the tile
    fit.py                            checks that names, types and shapes are those of the model
    classes.py                        checks that a request filters by classes of the model
"""

from tasks.inference.description.description import Description
from tasks.inference.description.load import load_description
from tasks.inference.description.preprocessing.tensor import PreparedTile

__all__ = ["Description", "PreparedTile", "load_description"]
