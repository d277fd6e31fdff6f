"""Where on Earth an image's pixels lie, and which pixel a place is.

Pixels are corner-origin (the centre of the first is 0.5, 0.5), as GDAL counts; the world is
longitude and latitude in degrees, WGS 84, longitude in [-180, 180]. Where there is no answer, both
coordinates are NaN. Every georeference may be shared by threads.
"""

from __future__ import annotations

from typing import Protocol

from tasks.imagery.georeference.transformers import Points


class Georeference(Protocol):
    """The two-way mapping between an image and the world.

    Attributes:
        kind: What it rests on: affine, gcp, rpc, igeolo (a NITF's corner points), sicd or sidd.
        text: The same in words, for the record: "affine in EPSG:32618".
    """

    @property
    def kind(self) -> str:
        """What it rests on: affine, gcp, rpc, igeolo (a NITF's corner points), sicd or sidd."""
        ...

    @property
    def text(self) -> str:
        """What it rests on, in words: "affine in EPSG:32618"."""
        ...

    def to_world(self, points: Points) -> Points:
        """Longitude, latitude (n, 2) of pixels x, y (n, 2)."""
        ...

    def to_image(self, lonlat: Points) -> Points:
        """Pixels x, y (n, 2) of longitude, latitude (n, 2); outside the image is no error."""
        ...
