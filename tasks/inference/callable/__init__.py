"""Models that are Python functions of this process.

No message can name one: it is passed to the job itself, as the function that opens its endpoint.
"""

from tasks.inference.callable.model import CallableModel

__all__ = ["CallableModel"]
