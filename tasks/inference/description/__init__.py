"""The description of a model's inputs and outputs (ONNX, OIP), from a JSON file.

The JSON follows the STAC Machine Learning Model extension (MLM, v1.5). MLM does not describe how
detections are decoded, nor what pixels and vectors hold; an additional object, `swath:detector`,
`swath:raster` or `swath:tile`, does.

    load.py, properties.py            reads the JSON; its schema is in mlm.py, mlm_tasks.py,
                                      model_input.py, value_scaling.py, detectors/,
                                      raster_head.py and tile_head.py
    description.py                    `Description`: the two steps below for one model
    preprocessing/                    a tile's pixels to the model's input tensor
    resample.py                       resizes a band, for tensors, maps and masks
    detectors/                        the model's output tensors to boxes and outlines, a module
                                      per family
    raster_head.py                    the model's output tensor to a map of the tile
    tile_head.py                      the model's output tensor to a vector of the tile
    fit.py                            checks that names, types and shapes are those of the model
    classes.py                        checks that a request filters by classes of the model
"""

from tasks.inference.description.description import Description
from tasks.inference.description.load import load_description
from tasks.inference.description.preprocessing.tensor import PreparedTile

__all__ = ["Description", "PreparedTile", "load_description"]
