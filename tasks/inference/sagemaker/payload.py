"""The largest tile that SageMaker accepts in a call."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import PermanentError, RequestError
from tasks.imagery import Image
from tasks.inference.sagemaker.aws_errors import SMALLER_TILES
from tasks.request import Request, TileCompression, TileFormat

_UNCOMPRESSED = (TileFormat.GTIFF, TileFormat.NITF, TileFormat.NPY)  # with compression NONE
_ALTERNATIVE = ", or name an asynchronous endpoint, which takes 1 GB"


@dataclass(frozen=True, slots=True)
class PayloadLimit:
    """The maximum size of a call's body for one kind of endpoint.

    Attributes:
        kind: The kind, as AWS calls it.
        size: The limit, in bytes.
        alternative: Another remedy for a tile that is too large, as the end of a message.
    """

    kind: str
    size: int
    alternative: str = _ALTERNATIVE

    def check(self, size: int) -> None:
        """Refuse a tile that is too large to be sent.

        Args:
            size: Bytes of the encoded tile.

        Raises:
            PermanentError: The tile is too large; the message has the limit and the remedy.
        """
        if size > self.size:
            raise PermanentError(self._message(f"the tile has {size} bytes"))

    def check_all(self, request: Request, image: Image) -> None:
        """Refuse a request whose uncompressed tiles are too large; compressed sizes are not known.

        Args:
            request: Names the size and the encoding of tiles.
            image: The image whose tiles will be sent.

        Raises:
            RequestError: The tiles are too large; the message has the limit and the remedy.
        """
        plain = request.tile_compression == TileCompression.NONE
        if not (plain and request.tile_format in _UNCOMPRESSED):
            return
        sides = min(request.tile_size, image.width), min(request.tile_size, image.height)
        size = sides[0] * sides[1] * image.pixel_bytes
        if size >= self.size:  # the file has a header too
            raise RequestError(
                self._message(
                    f"imageProcessorTileSize: {request.tile_size} pixels of {image.bands} × "
                    f"{image.dtype} make {request.tile_format} tiles of {size} bytes"
                )
            )

    def _message(self, what: str) -> str:
        return (
            f"{what}, and a {self.kind} endpoint of SageMaker takes {self.size}: "
            f"{SMALLER_TILES}{self.alternative}."
        )


# https://docs.aws.amazon.com/sagemaker/latest/dg/deploy-model-options.html
REAL_TIME = PayloadLimit("real-time", 25 * 2**20)
SERVERLESS = PayloadLimit("serverless", 4 * 2**20)
ASYNCHRONOUS = PayloadLimit("asynchronous", 2**30, "")
