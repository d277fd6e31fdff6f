"""Segmentation: the parts of a surface that tile edges cut are united."""

from tasks.merge.dissolve.tables import dissolve

__all__ = ["dissolve"]
