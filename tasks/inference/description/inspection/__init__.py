"""Describes a model from its own file: what it declares, and what its exporter wrote into it.

literals.py                           reads the values of metadata, which are untrusted text
ultralytics.py                        exports of Ultralytics, whose metadata say everything;
export_metadata.py, export_heads.py   the metadata, and the forms of their outputs
families.py, whole_tiles.py           models that are recognised by the names and shapes of their
                                      outputs: detectors; maps, classifiers and embeddings
draft.py                              a description of any model, with placeholders for what its
                                      file does not tell
"""

from tasks.inference.description.inspection.draft import Draft, draft_description
from tasks.inference.description.inspection.ultralytics import (
    describe_export,
    is_export,
    tile_size_of_export,
)

__all__ = [
    "Draft",
    "describe_export",
    "draft_description",
    "is_export",
    "tile_size_of_export",
]
