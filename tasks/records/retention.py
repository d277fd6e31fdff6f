"""How long the answers of a model are kept in the work store, and their removal after that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from tasks.errors import PublishError
from tasks.records.record import ImageRecord, image_folders, read_record_at, write_record
from tasks.reporting.status import JobStatus
from tasks.settings import settings
from tasks.storage import objects
from tasks.storage.age import last_written

logger = logging.getLogger(__name__)


def sweep(now: datetime, is_live: Callable[[ImageRecord], bool]) -> int:
    """Remove what is kept of images for longer than the settings say.

    The answers of an image that ended with SUCCESS are removed `SWATH_KEEP_AFTER_SUCCESS` hours
    after its end; its record stays. Everything of an image is removed when nothing was written for
    `SWATH_KEEP_ANSWERS` days. What cannot be removed is logged, and left to the next sweep.

    Args:
        now: The time.
        is_live: Whether a run of a record's image works or waits; nothing of it is removed.

    Returns:
        Number of images of which something was removed.

    Raises:
        PublishError: The work store cannot be listed.
    """
    removed = 0
    for folder in image_folders():
        try:
            removed += _sweep(folder, now, is_live)
        except PublishError as error:
            logger.warning("%s is not removed: %s", folder, error)
    return removed


def _sweep(folder: str, now: datetime, is_live: Callable[[ImageRecord], bool]) -> bool:
    """Remove what is too old of an image; returns whether there was anything."""
    record = read_record_at(folder)
    if record and _succeeded_before(record, now - timedelta(hours=settings().keep_after_success)):
        if is_live(record):
            return False
        for question in objects.list_folders(folder):
            objects.remove(objects.join(folder, question))
        write_record(record.model_copy(update={"answers_removed": now}))
        return True
    oldest = now - timedelta(days=settings().keep_answers)
    if record and record.updated > oldest:
        return False  # without a listing of all that is kept
    removed_before = record is not None and record.answers_removed is not None
    written = None if removed_before else last_written(folder)
    if (written and written > oldest) or (record and is_live(record)):
        return False
    objects.remove(folder)
    with suppress(OSError):  # it has other images, or is a prefix in S3
        Path(folder).parent.rmdir()
    return True


def _succeeded_before(record: ImageRecord, moment: datetime) -> bool:
    """Whether an image succeeded before a moment, and its answers are still kept."""
    if record.status is not JobStatus.SUCCESS or record.ended is None:
        return False
    return record.answers_removed is None and record.ended <= moment
