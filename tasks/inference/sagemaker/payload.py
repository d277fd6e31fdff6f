"""How large a tile SageMaker takes."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import PermanentError, RequestError
from tasks.imagery import Image
from tasks.inference.sagemaker.failures import SMALLER
from tasks.request import Request, TileCompression, TileFormat

_UNCOMPRESSED = (TileFormat.GTIFF, TileFormat.NITF, TileFormat.NPY)  # where compression is NONE
_ELSEWHERE = ", or name an asynchronous endpoint, which takes 1 GB"


@dataclass(frozen=True, slots=True)
class PayloadLimit:
    """The most bytes that one kind of endpoint takes in a call.

    Attributes:
        kind: Of endpoint, as AWS calls it.
        size: In bytes.
        elsewhere: What else one can do about a tile that is too large.
    """

    kind: str
    size: int
    elsewhere: str = _ELSEWHERE

    def check(self, size: int) -> None:
        """Refuse a tile that is too large, before it is sent.

        Args:
            size: Bytes of the encoded tile.

        Raises:
            PermanentError: With what to do.
        """
        if size > self.size:
            raise PermanentError(self._told(f"the tile has {size} bytes"))

    def check_all(self, request: Request, image: Image) -> None:
        """Refuse work of which every full tile is too large: where pixels are not compressed.

        Raises:
            RequestError: With what to do.
        """
        plain = request.tile_compression == TileCompression.NONE
        if not (plain and request.tile_format in _UNCOMPRESSED):
            return
        sides = min(request.tile_size, image.width), min(request.tile_size, image.height)
        size = sides[0] * sides[1] * image.pixel_bytes
        if size >= self.size:  # the file has a header too
            raise RequestError(
                self._told(
                    f"imageProcessorTileSize: {request.tile_size} pixels of {image.bands} × "
                    f"{image.dtype} make {request.tile_format} tiles of {size} bytes"
                )
            )

    def _told(self, what: str) -> str:
        return (
            f"{what}, and a {self.kind} endpoint of SageMaker takes {self.size}: "
            f"{SMALLER}{self.elsewhere}."
        )


# https://docs.aws.amazon.com/sagemaker/latest/dg/deploy-model-options.html
REAL_TIME = PayloadLimit("real-time", 25 * 2**20)
SERVERLESS = PayloadLimit("serverless", 4 * 2**20)
ASYNCHRONOUS = PayloadLimit("asynchronous", 2**30, "")
