"""The errors of Swath: each says what, where, and what to do.

SwathError
├── RequestError       the message cannot be honoured: the field, the value, the remedy
├── ImageError         the image cannot be read, or not safely
│   └── ImageChanged   the image was replaced while it was being read
├── EndpointError      the model did not answer a tile
│   ├── Throttled      it asked for patience; carries the seconds it asked for
│   ├── Transient      it may answer the next time: 5xx
│   │   ├── Unreachable  no connection to it, or one that broke
│   │   └── TimedOut   it took too long
│   └── Permanent      it never will: 4xx, a model or endpoint that does not exist
├── AnswerError        the model answered, but not with features
├── PublishError       an output could not be written
├── RegionLostError    a region's run ended without its findings
├── JobFailedError     every tile that was asked about failed; see `tasks.reporting.summary`
├── StopError          what a cancelled run is on could not be stopped
└── StackError         a part of the stack did not come up
"""

from __future__ import annotations


class SwathError(Exception):
    """Anything that Swath reports to its user in one line."""


class RequestError(SwathError):
    """The message cannot be honoured as it stands."""


class ImageError(SwathError):
    """The image cannot be read, or not safely."""


class ImageChanged(ImageError):  # noqa: N818 - a fact about the image, not a fault
    """The image was replaced while it was being read."""


class EndpointError(SwathError):
    """The model did not answer a tile."""


class Throttled(EndpointError):  # noqa: N818
    """The endpoint asked for patience.

    Attributes:
        retry_after: Seconds that the endpoint asked for, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Transient(EndpointError):  # noqa: N818
    """The endpoint may answer the next time: 5xx, connection, time-out."""


class Unreachable(Transient):
    """There is no connection to the endpoint, or it broke."""


class TimedOut(Transient):
    """The endpoint took too long to answer."""


class Permanent(EndpointError):  # noqa: N818
    """The endpoint will never answer this: 4xx, a model that does not exist."""


class AnswerError(SwathError):
    """The model answered, but not with features."""


class PublishError(SwathError):
    """An output could not be written."""


class RegionLostError(SwathError):
    """A region's run ended without its findings."""


class StopError(SwathError):
    """What a cancelled run is on could not be stopped."""


class StackError(SwathError):
    """A part of the stack did not come up."""
