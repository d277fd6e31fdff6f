"""Duplicate removal: one detection for each object, although overlapping tiles detected it twice.

- `settling`: which detections a region decides and defers; the merge of all deferred ones.
- `distillation`: the steps in order; `filtering`: the classes and scores that are wanted;
  `deferral`: which detections a region can decide alone.
- `cut_objects`: the rules for objects that a tile edge cuts.
- `algorithms`: NMS, soft NMS, non-maximum merging, weighted boxes fusion.
- `dissolve`: the union of surfaces that tile edges cut; `points`: equal boxes without an area.
- `shapes`: the outlines of detections, and the areas that two of them share.
- `compiled`, `machine_code`, `rtree`: what these are built on, machine code and a spatial index.
"""

from tasks.merge.filtering import passes_filter
from tasks.merge.settling import Settled, merge, settle

__all__ = ["Settled", "merge", "passes_filter", "settle"]
