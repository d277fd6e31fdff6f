"""The mapping between an image's pixels and positions on the Earth, in both directions.

Pixel coordinates have their origin at the corner of the first pixel, whose centre is 0.5, 0.5, as
in GDAL. World coordinates are longitude and latitude in degrees, WGS 84, longitudes in [-180, 180].
A point that cannot be converted becomes NaN in both coordinates. Threads may share a georeference.
"""

from __future__ import annotations

from typing import Protocol

from tasks.imagery.georeference.transformers import Points


class Georeference(Protocol):
    """The mapping between the pixels of an image and the world, in both directions."""

    @property
    def kind(self) -> str:
        """Its type: affine, gcp, rpc, igeolo (a NITF's corner points), sicd or sidd."""
        ...

    @property
    def text(self) -> str:
        """A description for the results, such as "affine in EPSG:32618"."""
        ...

    def to_world(self, points: Points) -> Points:
        """Convert pixels x, y (n, 2) to longitude, latitude (n, 2)."""
        ...

    def to_image(self, lonlat: Points) -> Points:
        """Convert longitude, latitude (n, 2) to pixels x, y (n, 2), also outside the image."""
        ...
