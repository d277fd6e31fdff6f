"""The slots of a limit on concurrent calls to one endpoint, over all regions and images."""

from flows.slots.region import endpoint_slots

__all__ = ["endpoint_slots"]
