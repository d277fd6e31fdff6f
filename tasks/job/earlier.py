"""What an earlier run has done of a job: all of it, or all but some of its outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.cost.money import cost_of
from tasks.cost.usage import Usage
from tasks.job.summary import summarise_image
from tasks.planning.plan import Plan
from tasks.records.record import Outcome, read_record
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary
from tasks.request import KinesisOutput

if TYPE_CHECKING:
    from tasks.publish import Provenance, StandingOutput


def completed_earlier(plan: Plan) -> Summary | None:
    """The outcome of the run that has published all of a plan's results with SUCCESS.

    Files say themselves what they are. What was put on a stream is known by the image's record.

    Args:
        plan: The plan of an image.

    Returns:
        The outcome, without a duration; None if something is left to be done.

    Raises:
        PublishError: An output or the record cannot be read.
    """
    outputs = plan.request.outputs
    to_streams = [output for output in outputs if isinstance(output, KinesisOutput)]
    streamed = _streamed_earlier(plan) if to_streams else None
    if to_streams and (streamed is None or len(to_streams) == len(outputs)):
        return streamed

    # late: this import is slow, and a region's run does not need it
    from tasks.publish import already_published  # noqa: PLC0415

    found = already_published(plan.request, plan.image)
    if found is None or streamed is not None:
        return streamed if found else None
    return summarise_image(
        plan, found.ledger(), JobStatus.SUCCESS, found.manifest.features, found.published
    )


def _streamed_earlier(plan: Plan) -> Summary | None:
    """The outcome of the same work on the same version of the image that ended with SUCCESS."""
    record = read_record(plan.request.job_id, plan.image.url)
    earlier = _outcome(plan, record.success if record else None)
    nothing = {
        "seconds": None,
        "usage": Usage(),
        "cost": cost_of(Usage(), plan.request.image_processor.names),
    }
    return earlier and earlier.model_copy(update=nothing)


def standing_earlier(plan: Plan, provenance: Provenance) -> dict[int, StandingOutput]:
    """The outputs that lack nothing or some formats, after a run of which only some failed.

    Args:
        plan: The plan of an image.
        provenance: Of the results that are about to be published.

    Returns:
        These outputs, by their index.

    Raises:
        PublishError: An output or the record cannot be read.
    """
    record = read_record(plan.request.job_id, plan.image.url)
    earlier = _outcome(plan, record.incomplete if record else None)
    if earlier is None:
        return {}

    from tasks.publish import standing_outputs  # noqa: PLC0415 - late, as above

    failed = {output.index for output in earlier.failed_outputs if output.format is None}
    if earlier.tiles != provenance.tiles:  # other results, which a stream does not tell
        failed |= {
            index
            for index, output in enumerate(plan.request.outputs)
            if isinstance(output, KinesisOutput)
        }
    return standing_outputs(plan.request, plan.image, provenance, failed)


def _outcome(plan: Plan, earlier: Outcome | None) -> Summary | None:
    """A recorded outcome if it is of the same work on the same version of the image."""
    if not earlier or (earlier.request, earlier.etag) != (plan.identity, plan.image.etag):
        return None
    return Summary.model_validate(earlier.summary)
