"""The work on an image and on a region as plain functions, without an orchestrator.

`work_image` processes a whole image: plan, regions, merge, publish, summary. A flow that runs the
regions on other machines calls the same functions.
"""

from tasks.job.image import FinishedImage, check_plan, finish_image, work_image
from tasks.job.observer import Observer
from tasks.job.region import RegionOutcome, work_region

__all__ = [
    "FinishedImage",
    "Observer",
    "RegionOutcome",
    "check_plan",
    "finish_image",
    "work_image",
    "work_region",
]
