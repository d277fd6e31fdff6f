"""Many images at once through `swath up`: one message that names 500, and 2,000 further messages.

Meanwhile the pages of Prefect are opened one after the other, as a browser does. The images are
tiny, one tile each, so that a run costs next to nothing but what Prefect and Swath take for it.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from tests.benchmarks.observed_stack import ObservedStack
from tests.benchmarks.prefect_pages import Opened
from tests.null_model import null_model
from tests.swath_up import swath_up

IMAGES = int(os.environ.get("BENCH_IMAGES", "500"))  # of the first message
MESSAGES = int(os.environ.get("BENCH_MESSAGES", "2000"))  # with an image each, sent after it
AHEAD = os.environ.get("BENCH_LOOK_AHEAD", "500")  # SWATH_LOOK_AHEAD
ENDS = int(os.environ.get("BENCH_ENDS", "20"))  # images that end while the others wait
WHOLE = int(os.environ.get("BENCH_WHOLE", "150"))  # images that are processed to the end
PAUSE = float(os.environ.get("BENCH_PAUSE", "1"))  # seconds between two pages that are opened
PATIENCE = float(os.environ.get("BENCH_PATIENCE", "3600"))  # seconds until a benchmark gives up


@contextmanager
def stack(folder: Path) -> Iterator[ObservedStack]:
    with swath_up(folder, SWATH_LOOK_AHEAD=AHEAD) as up, null_model() as model:
        up.start()
        yield ObservedStack(up, model)


def await_(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait until a condition holds; whether it does in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


def show(benchmark: str, **figures: object) -> None:
    load = {"load": round(os.getloadavg()[0], 1)}
    print(json.dumps({"benchmark": f"many images: {benchmark}"} | figures | load), flush=True)


def show_pages(when: str, opened: dict[str, list[Opened]]) -> None:
    """Print how long the pages took, and the slowest requests of each."""
    for page, times in opened.items():
        slowest: dict[str, float] = {}
        for path, took in (request for each in times for request in each.requests):
            slowest[path] = max(round(took, 3), slowest.get(path, 0.0))
        seconds = [each.seconds for each in times]
        answers = [took for each in times for _, took in each.requests]
        if len(seconds) > 1:
            show(
                f"{page} page, {when}",
                opened=len(seconds),
                page=_spread(seconds),
                request=_spread(answers),
                kilobytes=max(each.bytes for each in times) // 1000,
                slowest=dict(sorted(slowest.items(), key=lambda each: -each[1])[:3]),
            )


def _spread(seconds: list[float]) -> dict[str, float]:
    worst = {"median": median(seconds), "95 %": quantiles(seconds, n=20)[-1], "worst": max(seconds)}
    return {name: round(value, 3) for name, value in worst.items()}


def show_use(when: str, stack: ObservedStack, began: float, before: dict[str, float]) -> None:
    """Print what was used since a time."""
    spent = {part: round(after - before[part], 1) for part, after in stack.cpu().items()}
    seconds = round(time.monotonic() - began, 1)
    memory = round(stack.up.part("prefect").memory_info().rss / 2**20)
    show(f"CPU s, {when}", seconds=seconds, **spent, server_mib=memory, rows=stack.rows())


def test_many_wait(tmp_path: Path) -> None:
    """All runs are created, as far as SWATH_LOOK_AHEAD allows; the first images are processed."""
    with stack(tmp_path) as many:
        first = many.request("first", many.images("many-first", IMAGES))
        others = enumerate(many.images("many-other", MESSAGES))
        bodies = [many.request(f"other-{number}", [path]) for number, path in others]
        before, began = many.cpu(), time.monotonic()
        with many.browsing(PAUSE):
            many.send([first])
            assert await_(lambda: many.runs("many-first") == IMAGES)
            show("runs of one message", runs=IMAGES, a_second=many.rate("many-first"))
            many.send(bodies)
            await_(
                lambda: many.runs("many", "Waiting") >= min(int(AHEAD), IMAGES + MESSAGES - ENDS)
            )
        show_pages("while runs are created", many.opened)
        show_use("runs are created", many, began, before)
        created = many.runs("many-other")
        show("runs of messages", runs=created, a_second=many.rate("many-other"))

        before, began, ended = many.cpu(), time.monotonic(), many.runs("many", "Completed")
        with many.browsing(PAUSE):
            await_(lambda: many.runs("many", "Completed") >= ended + ENDS)
        show_pages("while they wait", many.opened)
        show_use("they wait", many, began, before)
        done, seconds = many.runs("many", "Completed") - ended, time.monotonic() - began
        show("results", images=done, a_second=round(done / seconds, 2))
        left = many.depth(many.up.record.queue_url)
        show("left", waiting=many.runs("many", "Waiting"), messages=left)
        assert many.runs("many") + left == IMAGES + MESSAGES
        assert many.depth(many.up.record.dead_letter_url) == 0


def test_none_is_lost(tmp_path: Path) -> None:
    """Each image has one result and one terminal status, and no message is left."""
    with stack(tmp_path) as many:
        half = WHOLE // 2
        images = many.images("whole", WHOLE)
        bodies = [
            many.request(f"job-{number}", [path]) for number, path in enumerate(images[half:])
        ]
        before, began = many.cpu(), time.monotonic()
        many.send([many.request("job", images[:half]), *bodies])
        assert await_(lambda: many.runs("whole", "Completed") == WHOLE), many.up.console
        show_use(f"{WHOLE} images to the end", many, began, before)
        results = Counter(path.name for path in (tmp_path / "results").rglob("*.swath.json"))
        assert results == Counter(f"{Path(image).name}.swath.json" for image in images)
        ends = Counter[str]()
        assert await_(lambda: (ends.update(many.ends()), len(ends) == WHOLE)[1], 60)
        assert set(ends.values()) == {1}
        assert many.runs("whole") == WHOLE
        assert many.depth(many.up.record.queue_url) == 0
        assert many.depth(many.up.record.dead_letter_url) == 0
