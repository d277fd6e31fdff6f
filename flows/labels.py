"""Labels of flow runs, by which the processes of Swath tell each other what they know of a run."""

ALIVE = "swath.alive"
"""Changed by the run's process while it lives."""

ANNOUNCED = "swath.announced"
"""Whether the run's final status was published."""

CLAIM = "swath.announcing"
"""Who is publishing the run's final status, and a sign of that one's life."""

RESTARTS = "swath.restarts"
"""How often a sensor has started the run again, as its process had died."""

HOOKED = "swath.hooked"
"""Of a crashed run: the state after which its worker called the hook, or was gone."""
