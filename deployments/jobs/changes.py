"""What `swath remerge` and `swath publish` change in the message of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deployments.run.merging import MergingOptions
from deployments.run.words import format_names

_SCORES = ("skipBoxThreshold", "classThresholds")  # both are given by --conf
_OF_THE_KIND = ("iouThreshold", "measure", "method", "sigma")  # which not all algorithms have alike


def with_merging(request: Mapping[str, Any], options: MergingOptions) -> dict[str, Any]:
    """A message with another way of filtering and merging.

    What no option gives stays as it is. With another algorithm, thresholds of the old one that are
    not given become the defaults of the new one.

    Args:
        request: The message as JSON.
        options: The options that are given.

    Raises:
        RequestError: An option has an invalid value.
    """
    given = options.message()
    if not given:
        return dict(request)
    (new,) = given["postProcessing"]
    old = dict((request.get("postProcessing") or [{}])[0].get("algorithm", {}))
    replaced: list[str] = []
    if options.conf:
        replaced += _SCORES
    kind = new["algorithm"].get("algorithmType")
    if kind is not None and kind != old.get("algorithmType", "NMS"):
        replaced += _OF_THE_KIND
    kept = {name: value for name, value in old.items() if name not in replaced}
    return {**request, "postProcessing": [{"algorithm": kept | new["algorithm"]}]}


def with_formats(request: Mapping[str, Any], formats: Sequence[str]) -> dict[str, Any]:
    """A message whose outputs of files have other formats.

    Args:
        request: The message as JSON.
        formats: Names of formats, or several in one text, separated by commas; none to keep those
            of the message.

    Raises:
        RequestError: The texts name no format.
    """
    names = format_names(formats)
    if not names:
        return dict(request)
    outputs = [
        output if output["type"] == "Kinesis" else output | {"formats": names}
        for output in request["outputs"]
    ]
    return {**request, "outputs": outputs}
