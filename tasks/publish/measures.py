"""The measures of oriented boxes as columns of numbers."""

from __future__ import annotations

import pyarrow as pa

from tasks.publish.oriented_boxes import LENGTH_METRES, WIDTH_METRES
from tasks.results import exact_json
from tasks.results.oriented_boxes import ANGLE, LENGTH, WIDTH

MEASURES = {
    "angle": ANGLE,
    "length_pixels": LENGTH,
    "width_pixels": WIDTH,
    "length_metres": LENGTH_METRES,
    "width_metres": WIDTH_METRES,
}
"""The columns, and the property that each is a copy of."""


def measures(properties: list[bytes]) -> dict[str, pa.Array]:
    """The columns of `MEASURES`; null where a feature is no oriented box.

    Args:
        properties: (n,) JSON objects.
    """
    marker = b'"%s":' % LENGTH.encode()
    found = [exact_json.loads(text) if marker in text else {} for text in properties]
    columns = {}
    for column, name in MEASURES.items():
        values = [each.get(name) if isinstance(each.get(name), float) else None for each in found]
        columns[column] = pa.array(values, pa.float64())
    return columns
