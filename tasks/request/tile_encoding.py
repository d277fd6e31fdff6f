"""The formats and compressions in which tiles are sent to the model, and the valid pairs."""

from __future__ import annotations

from enum import StrEnum


class TileFormat(StrEnum):
    """File format of a tile."""

    NITF = "NITF"
    GTIFF = "GTIFF"
    PNG = "PNG"
    JPEG = "JPEG"
    NPY = "NPY"


class TileCompression(StrEnum):
    """Compression within a tile's file."""

    NONE = "NONE"
    LZW = "LZW"
    ZSTD = "ZSTD"
    JPEG = "JPEG"
    J2K = "J2K"


# PNG and JPEG always compress: NONE means their own compression
COMPRESSIONS: dict[TileFormat, tuple[TileCompression, ...]] = {
    TileFormat.NITF: (TileCompression.NONE, TileCompression.JPEG, TileCompression.J2K),
    TileFormat.GTIFF: (
        TileCompression.NONE,
        TileCompression.LZW,
        TileCompression.ZSTD,
        TileCompression.JPEG,
    ),
    TileFormat.PNG: (TileCompression.NONE,),
    TileFormat.JPEG: (TileCompression.NONE, TileCompression.JPEG),
    TileFormat.NPY: (TileCompression.NONE,),
}


def check_pair(tile_format: TileFormat, compression: TileCompression) -> None:
    """Check that a format has a compression.

    Raises:
        ValueError: It does not.
    """
    allowed = COMPRESSIONS[tile_format]
    if compression not in allowed:
        raise ValueError(
            f"is not a compression of {tile_format} tiles; give {' or '.join(allowed)}, or "
            "another imageProcessorTileFormat"
        )
