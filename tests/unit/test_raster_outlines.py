"""Polygons of a raster: exact, and the same whichever rows are outlined together."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.ndimage import label

from tasks.raster.outlines import Outline, Strip, outlines

class_maps = arrays(
    np.uint8,
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    elements=st.integers(0, 2),
)


def outlined(classes: NDArray[np.uint8], rows: int) -> list[Outline]:
    strips = (
        Strip(top, part, part != 2, part * 10 + 5)
        for top in range(0, len(classes), rows)
        for part in [classes[top : top + rows]]
    )
    return sorted(outlines(strips), key=lambda each: (each.number, each.geometry.normalize().wkt))


@given(classes=class_maps)
def test_polygons_are_the_groups_of_neighbouring_pixels(classes: NDArray[np.uint8]) -> None:
    found = outlined(classes, len(classes))
    for number in (0, 1):
        labels, count = label(classes == number)
        areas = sorted(np.bincount(labels.ravel())[1:].tolist())
        ours = [each for each in found if each.number == number]
        assert len(ours) == count
        assert sorted(each.pixels for each in ours) == areas
    for each in found:
        assert each.geometry.area == each.pixels
        assert each.score == each.number * 10 + 5
        assert shapely.is_valid(each.geometry)


@given(classes=class_maps, rows=st.integers(1, 23))
def test_polygons_do_not_depend_on_the_strips(classes: NDArray[np.uint8], rows: int) -> None:
    whole, parts = outlined(classes, len(classes)), outlined(classes, rows)
    assert len(whole) == len(parts)
    for one, other in zip(whole, parts, strict=True):
        assert (one.number, one.pixels, one.score) == (other.number, other.pixels, other.score)
        assert one.geometry.equals(other.geometry)
        assert shapely.get_num_coordinates(one.geometry) == shapely.get_num_coordinates(
            other.geometry
        )
