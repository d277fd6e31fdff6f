"""The outcome of a job that an earlier run has completed: nothing is left to be done."""

from __future__ import annotations

from tasks.planning.plan import Plan
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary, summarise


def completed_earlier(plan: Plan) -> Summary | None:
    """The outcome of the run that has published all of a plan's results with SUCCESS.

    Args:
        plan: The plan of an image.

    Returns:
        The outcome, without a duration; None if something is left to be done.

    Raises:
        PublishError: An output cannot be read.
    """
    # late: this import is slow, and a region's run does not need it
    from tasks.publish import already_published  # noqa: PLC0415

    found = already_published(plan.request, plan.image)
    if found is None:
        return None
    return summarise(
        found.ledger(),
        job_id=plan.request.job_id,
        image=plan.image.url,
        status=JobStatus.SUCCESS,
        features=found.manifest.features,
        classes=found.published.classes,
        outputs=found.published.uris,
        repaired=found.published.repaired,
        georeference=plan.image.georeference,
    )
