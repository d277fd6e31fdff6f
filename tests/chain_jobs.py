"""The jobs of the chain: what is sent, told, stored and published, and which runs there are."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun

from deployments.local.resources import IMAGE_BUCKET, RESULT_BUCKET, WORK_BUCKET, Resources
from tasks.aws.clients import client
from tasks.queue.sqs import send
from tasks.storage import objects
from tests.counting_model import CountingModel
from tests.faulty_proxy import Call
from tests.inbox import received
from tests.polling import until

ENDS = {"SUCCESS", "PARTIAL", "FAILED"}


@dataclass(kw_only=True)
class ChainJobs:
    """The jobs of a running chain.

    Attributes:
        folder: For local files.
        resources: Queues and topic.
    """

    folder: Path
    resources: Resources
    _statuses: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def send(self, job: str, model: CountingModel, *images: str, **fields: Any) -> str:
        """Send a request for images of the image bucket; returns the message."""
        message = {
            "jobId": job,
            "imageUrls": [f"s3://{IMAGE_BUCKET}/{name}" for name in images],
            "outputs": [{"type": "S3", "bucket": RESULT_BUCKET, "prefix": job}],
            "imageProcessor": {"name": model.url, "type": "HTTP_ENDPOINT"},
            "imageProcessorTileSize": 128,
            "imageProcessorTileOverlap": 32,
            "imageProcessorTileFormat": "GTIFF",
        }
        body = json.dumps(message | fields)
        send(self.resources.queue_url, body)
        return body

    def resend(self, message: str) -> None:
        """Send a message again."""
        send(self.resources.queue_url, message)

    def upload(self, image: Path, name: str) -> str:
        """Put an image into the image bucket; returns its name."""
        objects.put(f"s3://{IMAGE_BUCKET}/{name}", image)
        return name

    def copy(self, image: str, name: str) -> str:
        """Put an image of the image bucket there under another name; returns that."""
        source = {"Bucket": IMAGE_BUCKET, "Key": image}
        client("s3").copy_object(CopySource=source, Bucket=IMAGE_BUCKET, Key=name)
        return name

    def statuses(self, job: str) -> list[str]:
        """The statuses of a job so far."""
        for each in received(self.resources.status_queue_url):
            self._statuses[each.get("job_id", "")].append(each)
        return [each["status"] for each in self._statuses[job]]

    def await_end(self, job: str, times: int = 1) -> str:
        """Wait for the terminal status that a job has for the n-th time; returns it."""
        until(lambda: self._ends(job)[times - 1 :], lambda: (job, self.statuses(job)), interval=0.3)
        return self._ends(job)[times - 1]

    def _ends(self, job: str) -> list[str]:
        return [status for status in self.statuses(job) if status in ENDS]

    def reason(self, job: str) -> str:
        """The text of a job's last status."""
        return str(self._statuses[job][-1]["body"])

    def dead_letters(self, least: int = 0) -> list[dict[str, Any]]:
        """The messages on the dead-letter queue, at least so many, which are deleted.

        A sensor that looks through them hides them for some seconds.
        """
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            found.extend(received(self.resources.dead_letter_url))
            return len(found) >= least

        until(enough)
        return found

    def queue_is_empty(self) -> bool:
        """Whether no message is on the queue, hidden ones included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = client("sqs").get_queue_attributes(
            QueueUrl=self.resources.queue_url, AttributeNames=names
        )
        return all(answer["Attributes"][name] == "0" for name in names)

    # What is published

    def published(self, job: str) -> list[str]:
        """The names of a job's published files."""
        prefix = f"{job}/"
        answer = client("s3").list_objects_v2(Bucket=RESULT_BUCKET, Prefix=prefix)
        return [each["Key"].removeprefix(prefix) for each in answer.get("Contents", [])]

    def features(self, job: str, image: str) -> list[dict[str, Any]]:
        """The published features of an image, as `places` has them."""
        body = objects.get(f"s3://{RESULT_BUCKET}/{job}/{Path(image).name}.geojson")
        return places(json.loads(body))

    def download(self, job: str, name: str) -> Path:
        """A copy of a published file."""
        path = self.folder / f"{job}-{name}"
        path.write_bytes(objects.get(f"s3://{RESULT_BUCKET}/{job}/{name}"))
        return path

    def stored_tiles(self, job: str) -> int:
        """Number of a job's tiles whose answers by the model are stored."""
        s3, tiles = client("s3"), set[int]()
        kept = s3.list_objects_v2(Bucket=WORK_BUCKET, Prefix=f"jobs/{job}/").get("Contents", [])
        for key in [
            each["Key"]
            for each in kept
            if each["Key"].endswith(".arrow") and "/answers/" in each["Key"]
        ]:
            body = s3.get_object(Bucket=WORK_BUCKET, Key=key)["Body"].read()
            lines = pa.ipc.open_stream(body).read_all().to_pylist()
            tiles |= {line["tile"] for line in lines if line["state"] == "inferred"}
        return len(tiles)

    def writes_results(self, job: str) -> Callable[[Call], bool]:
        """Whether a call writes a file of a job's results."""
        return lambda call: (
            call.method in {"PUT", "POST"} and call.path.startswith(f"/{RESULT_BUCKET}/{job}/")
        )

    # What runs

    def image_runs(self, job: str) -> list[FlowRun]:
        """The runs of a job's images, the oldest first."""
        return [run for run in runs_of(job) if "region" not in run.parameters]

    def region_runs(self, job: str) -> list[FlowRun]:
        """The runs of a job's regions, the oldest first."""
        return [run for run in runs_of(job) if "region" in run.parameters]


def runs_of(job: str) -> list[FlowRun]:
    """The runs of a job's images and regions, the oldest first."""
    tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"job:{job}"]))
    with get_client(sync_client=True) as prefect:
        runs = prefect.read_flow_runs(flow_run_filter=tagged)
    return sorted(runs, key=lambda run: run.created)  # type: ignore[arg-type, return-value]


def places(collection: dict[str, Any]) -> list[dict[str, Any]]:
    """Where the features of a collection are and what they are, in an order of their own."""
    found = [
        {"geometry": each["geometry"]}
        | {name: each["properties"][name] for name in ("imageBBox", "featureClasses")}
        for each in collection["features"]
    ]
    return sorted(found, key=json.dumps)
