"""The flows of a soak: those of Swath, with shorter waits in about the same proportions.

Only the processes of runs import it, as the waits of whoever imports it change.
"""

from __future__ import annotations

from datetime import timedelta

import flows.alive
import flows.sensor
import flows.sensor_runs
import tasks.queue.sqs
from flows.image import image
from flows.region import region
from flows.sensor import sensor
from tests.soak.short_waits import SILENCE

__all__ = ["image", "region", "sensor"]

flows.alive.BEAT, flows.alive.SILENCE, flows.alive._LONGEST_GAP = 2.5, SILENCE, 10.0
flows.sensor.VISIBILITY = tasks.queue.sqs.VISIBILITY = 20  # type: ignore[attr-defined]
flows.sensor._POLL = flows.sensor_runs._CHECK = 2.0  # a sensor's signs of life
flows.sensor_runs.STANDBY_DELAYS = (timedelta(seconds=25), timedelta(seconds=32))
