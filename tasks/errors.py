"""The errors of Swath: each says what is wrong, where, and what to do.

SwathError
├── RequestError                  the request cannot be processed: the field, the value, the remedy
│   ├── NoSuchFileError           a file of a model does not exist
│   └── UnsupportedTaskError      the model is for a task that Swath does not run
├── ImageError                    the image cannot be read, or not safely
│   ├── ImageChangedError         the image was replaced while it was being read
│   └── ImageUnreachableError     its file cannot be fetched: absent, denied, or no answer
├── EndpointError                 the model did not answer a call
│   ├── ThrottledError            it is overloaded: 429, 503
│   ├── TransientError            a later call may succeed: 408, 425, other 5xx
│   │   ├── UnreachableError      no connection to it, or one that broke
│   │   └── EndpointTimeoutError  it did not answer in time
│   └── PermanentError            no later call can succeed: other 4xx, no such endpoint
├── AnswerError                   the model answered, but not with what was asked for
│   └── BadAnswerError            a malformed answer, sent on purpose by a test model
├── LimitReachedError             a tile is not asked for: its job may spend no more
├── LimiterClosedError            a call was given up because its region's run is ending
├── PublishError                  an output could not be written
│   └── DamagedStoreError         kept answers, or what came of them, are damaged and were removed
├── RegionLostError               a region's run ended without its results
├── IncompleteJobError            some or all tiles of an image failed
├── StopError                     the ECS task of a cancelled run could not be stopped
└── StackError                    a process of the stack, on this machine or AWS, cannot start

All are defined here except three, which are defined in the module that raises them:
IncompleteJobError in `tasks.reporting.summary`, LimiterClosedError in `tasks.inference.limiter`,
BadAnswerError in `tasks.inference.builtin.failure`.
"""

from __future__ import annotations


class SwathError(Exception):
    """Base of all errors of Swath: the message is reported to the user in one line."""


class RequestError(SwathError):
    """The request cannot be processed as it stands."""


class NoSuchFileError(RequestError):
    """A file of a model does not exist."""


class UnsupportedTaskError(RequestError):
    """The model is for a task that Swath does not run."""


class ImageError(SwathError):
    """The image cannot be read, or not safely."""


class ImageChangedError(ImageError):
    """The image was replaced while it was being read."""


class ImageUnreachableError(ImageError):
    """The file of the image cannot be fetched: it is absent, access is denied, or no answer.

    Attributes:
        partly: Whether other parts of it could be fetched.
    """

    def __init__(self, message: str, *, partly: bool = False) -> None:
        super().__init__(message)
        self.partly = partly


class EndpointError(SwathError):
    """The model did not answer a call."""


class ThrottledError(EndpointError):
    """The endpoint is overloaded: 429, 503.

    Attributes:
        retry_after: Seconds that the endpoint asks to wait, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TransientError(EndpointError):
    """A later call may succeed: 408, 425, a 5xx other than 503, a broken connection, a time-out."""


class UnreachableError(TransientError):
    """There is no connection to the endpoint, or the connection broke.

    Attributes:
        connected: Whether there was a connection, so that the call itself may have broken it.
    """

    def __init__(self, message: str, *, connected: bool = True) -> None:
        super().__init__(message)
        self.connected = connected


class EndpointTimeoutError(TransientError):
    """The endpoint did not answer in time."""


class PermanentError(EndpointError):
    """No later call can succeed: another 4xx, or a model or endpoint that does not exist."""


class AnswerError(SwathError):
    """The model answered, but not with the features or the raster that was asked for."""


class LimitReachedError(SwathError):
    """A tile is not asked for, as the job has spent what it may."""


class PublishError(SwathError):
    """An output could not be written."""


class DamagedStoreError(PublishError):
    """Kept answers, or what a region came to, are damaged, and removed: the next try is without."""


class RegionLostError(SwathError):
    """A region's run ended without its results."""


class StopError(SwathError):
    """The ECS task of a cancelled run could not be stopped."""


class StackError(SwathError):
    """A process of the stack, on this machine or on AWS, cannot start, or has ended."""
