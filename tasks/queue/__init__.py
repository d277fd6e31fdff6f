"""The queue of requests on SQS, and the requests for images that arrive in S3.

`sqs` receives and deletes messages. `read_arrivals` reads S3's notifications among them, and
`request_for` makes the request for one new object from the nearest template, the `request.json` in
the object's folder or above it.
"""

from tasks.queue.arrivals import Arrival
from tasks.queue.notifications import read_arrivals
from tasks.queue.templates import request_for

__all__ = ["Arrival", "read_arrivals", "request_for"]
