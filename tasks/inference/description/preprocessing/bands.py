"""Chooses the bands of an image that the model gets."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.errors import RequestError
from tasks.inference.description.properties import Properties


def choose_bands(
    properties: Properties, count: int, names: Sequence[Sequence[str]], alpha: int | None
) -> tuple[int, ...]:
    """The indices of the bands, from 0, in the order of the model's channels.

    They are chosen by number if the description has `bands` of Swath's own, else by name if
    `mlm:input[0].bands` has names. Otherwise the image must have as many bands as the model takes,
    alpha not counted.

    Args:
        properties: The description of the model.
        count: Number of bands of the image, alpha included.
        names: Names of the image's bands (red, gray, nir, …), one list for each kind: the first
            that has all names of the description counts.
        alpha: Number of the alpha band, from 1, or None.

    Raises:
        RequestError: The image lacks a band, or the description does not say which to use.
    """
    model_input, head = properties.input, properties.head
    if head.bands is not None:
        chosen = tuple(band - 1 for band in head.bands)
        if max(chosen) >= count:
            raise RequestError(
                f"{head.field}.bands: names band {max(chosen) + 1} of an image that has {count}; "
                "give an image with more bands, or other bands."
            )
    elif model_input.band_names:
        chosen = _by_name(model_input.band_names, names, head.field)
    else:
        channels, available = model_input.input.size_of("bands"), [*range(count)]
        if alpha is not None:
            available.remove(alpha - 1)
        if len(available) != channels:
            example = [min(band, count) for band in range(1, channels + 1)]
            raise RequestError(
                f"{head.field}.bands: missing, and the model takes {channels} bands where the "
                f"image has {len(available)}; list the ones to use, counted from 1, for example "
                f"{example}."
            )
        chosen = tuple(available)
    return chosen[::-1] if head.channel_order == "BGR" else chosen


def bands_in_order(properties: Properties, count: int) -> tuple[int, ...]:
    """The indices, from 0, of bands that a request names in the order that a description lists.

    Args:
        properties: The description of the model, whose own bands they replace.
        count: Number of the bands that the request names.

    Raises:
        RequestError: The model takes another number of bands.
    """
    channels = properties.input.input.size_of("bands")
    if count != channels:
        raise RequestError(
            f"imageBands: names {count} band{'' if count == 1 else 's'}, and the model takes "
            f"{channels}; give {channels}."
        )
    chosen = tuple(range(count))
    return chosen[::-1] if properties.head.channel_order == "BGR" else chosen


def _by_name(wanted: Sequence[str], kinds: Sequence[Sequence[str]], field: str) -> tuple[int, ...]:
    available: list[str] = []
    for names in kinds:
        available = [name.lower() for name in names]
        if all(name.lower() in available for name in wanted):
            return tuple(available.index(name.lower()) for name in wanted)
    missing = next(name for name in wanted if name.lower() not in available)
    raise RequestError(
        f"mlm:input[0].bands: the image has no band {missing!r} "
        f"(it has {', '.join(available) or 'no named bands'}); give the numbers of the bands in "
        f"{field}.bands, counted from 1, for example {list(range(1, len(wanted) + 1))}."
    )
