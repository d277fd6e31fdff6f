"""The limit on concurrent calls to one endpoint, over all regions and images, held in Prefect."""

from flows.slots.limit import limit_name
from flows.slots.region import endpoint_slots

__all__ = ["endpoint_slots", "limit_name"]
