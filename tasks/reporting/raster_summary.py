"""The raster in the summary of an image's run: what its pixels hold."""

from __future__ import annotations

from itertools import islice

from pydantic import BaseModel, ConfigDict, FiniteFloat

from tasks.results.shares import percent

_MAX_CLASSES = 8  # in one line


class ValueRange(BaseModel):
    """The values of a band.

    Attributes:
        band: Its name.
        low: Least value.
        mean: Mean value.
        high: Greatest value.
    """

    model_config = ConfigDict(frozen=True)

    band: str
    low: FiniteFloat
    mean: FiniteFloat
    high: FiniteFloat


class RasterSummary(BaseModel):
    """The raster of an image.

    Attributes:
        width: Pixels in x; 0 if there is none, as every tile failed.
        height: Pixels in y.
        classes: Pixels of each class by its name, or its number if it has no name; the most
            frequent first.
        values: The values of each band, of a raster without classes.
        unit: Unit of the values.
        nodata: Pixels that have no answer, for whatever reason.
        nodata_share: Their share (0 to 1) of all pixels.
        missing: Those of them that have none because tiles failed.
        outside: Those of them outside the region of interest.
        blank: The others: of blank tiles, or the model answered that it has no value for them.
    """

    model_config = ConfigDict(frozen=True)

    width: int = 0
    height: int = 0
    classes: dict[str, int] = {}
    values: tuple[ValueRange, ...] = ()
    unit: str = ""
    nodata: int = 0
    nodata_share: float = 0.0
    missing: int = 0
    outside: int = 0
    blank: int = 0

    @property
    def text(self) -> str:
        """The raster in one line."""
        if not self.width:
            return "no raster"
        held = self.contents or "none has a value"
        return f"raster of {self.width} × {self.height} pixels: {held}"

    @property
    def contents(self) -> str:
        """The share of each class among the pixels with an answer, or the range of each band."""
        total = sum(self.classes.values())
        parts = [
            f"{f'class {name}' if name.isdecimal() else name} {percent(pixels / total)}"
            for name, pixels in islice(self.classes.items(), _MAX_CLASSES)
        ]
        if len(self.classes) > _MAX_CLASSES:
            parts.append(f"{len(self.classes) - _MAX_CLASSES} more classes")
        unit = f" {self.unit}" if self.unit else ""
        parts += [
            f"{each.band} {each.low:.4g} to {each.high:.4g}{unit}, mean {each.mean:.4g}"
            for each in self.values
        ]
        return ", ".join(parts)

    @property
    def nodata_text(self) -> str:
        """How many pixels have no answer, and why; empty if all have one."""
        reasons = {
            "failed": self.missing,
            "outside the region of interest": self.outside,
            "blank": self.blank,
        }
        listed = ", ".join(f"{pixels:,} {reason}" for reason, pixels in reasons.items() if pixels)
        number = f"{self.nodata:,} pixel{'' if self.nodata == 1 else 's'}"
        share = percent(self.nodata_share)
        return f"{number} without an answer ({share}): {listed}" if self.nodata else ""
