"""Which of an image's bands a model takes."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.errors import RequestError
from tasks.inference.description.properties import OURS, Properties


def choose_bands(
    properties: Properties, count: int, names: Sequence[str], alpha: int | None
) -> tuple[int, ...]:
    """The bands of an image, from 0, in the order of the model's channels.

    By position where `swath:detector.bands` tells, by name where MLM's bands do; else an image has
    to have as many as the model, alpha not counted.

    Args:
        properties: Of the model.
        count: Bands that the image has, alpha included.
        names: What they show (red, gray, nir, …), as far as that is known.
        alpha: The alpha band, from 1, or None.

    Raises:
        RequestError: The image lacks one, or nothing tells which they are.
    """
    given, detector = properties.input, properties.detector
    if detector.bands is not None:
        chosen = tuple(band - 1 for band in detector.bands)
        if max(chosen) >= count:
            raise RequestError(
                f"{OURS}.bands: names band {max(chosen) + 1} of an image that has {count}; give an "
                "image with more bands, or other bands."
            )
    elif given.band_names:
        chosen = _by_name(given.band_names, [name.lower() for name in names])
    else:
        channels, seen = given.input.size_of("bands"), [*range(count)]
        if alpha is not None:
            seen.remove(alpha - 1)
        if len(seen) != channels:
            raise RequestError(
                f"{OURS}.bands: missing, and the model takes {channels} bands where the image has "
                f"{len(seen)}; list those that go in, from 1, for example "
                f"{list(range(1, channels + 1))}."
            )
        chosen = tuple(seen)
    return chosen[::-1] if detector.channel_order == "BGR" else chosen


def _by_name(wanted: Sequence[str], there: Sequence[str]) -> tuple[int, ...]:
    missing = [name for name in wanted if name.lower() not in there]
    if missing:
        raise RequestError(
            f"mlm:input[0].bands: {missing[0]!r} is none of the image's bands "
            f"({', '.join(there) or 'which have no names'}); say where each lies with "
            f"{OURS}.bands, counted from 1, for example {list(range(1, len(wanted) + 1))}."
        )
    return tuple(there.index(name.lower()) for name in wanted)
