"""Files that arrive in S3: a notification of a new object, and a template, make a request.

`read_arrivals` reads what S3 sends to the queue; `request_for` makes the request for one new object
from the nearest `request.json`, in the object's folder or above it.
"""

from tasks.queue.arrivals import IMAGES, Arrival
from tasks.queue.notifications import read_arrivals
from tasks.queue.templates import request_for

__all__ = ["IMAGES", "Arrival", "read_arrivals", "request_for"]
