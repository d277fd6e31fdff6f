"""Swath's calls with the roles of a stack, on an emulated AWS that enforces policies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from deployments.local.aws import start_aws, wait_for_aws
from deployments.local.processes import Processes
from tasks.aws import clients
from tasks.aws.clients import client
from tasks.errors import SwathError
from tasks.imagery import TilePixels
from tasks.job.image import check_plan
from tasks.planning.plan import make_plan
from tasks.publish.kinesis import stream_status
from tasks.queue.sqs import Queue, open_queue, send
from tasks.records.folders import image_folder, jobs_folder
from tasks.records.record import Recorder, read_record, read_records
from tasks.records.retention import sweep
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tasks.results.coverage import TileState
from tasks.results.detections import SCHEMA
from tasks.results.stored import RegionStore
from tasks.results.tile_results import without_detections
from tasks.settings import settings
from tasks.storage import conditional, objects
from tests.stacks import Stack, make_network, make_stack

ACCOUNT = "000000000000"
FORBIDDEN = ("AccessDenied", "AuthorizationError", "403", "Forbidden")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack, and buckets and streams outside of it."""
    folder = tmp_path_factory.mktemp("aws")
    with Processes() as processes, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTH", "true")
        cloud = start_aws(processes, folder)
        wait_for_aws(cloud, timeout=60)
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        patch.setenv("GDAL_HTTP_HEADERS", "X-Forwarded-Proto: https")
        forget(tls=True)
        for bucket in ("others", "more", "published", "gazette", "secret"):
            client("s3").create_bucket(Bucket=bucket)
        client("kinesis").create_stream(StreamName="features", ShardCount=1)
        made = make_stack(
            cloud.endpoint_url,
            make_network(),
            ReadBucketArns="arn:aws:s3:::others,arn:aws:s3:::more",
            OutputBucketArns="arn:aws:s3:::published,arn:aws:s3:::gazette",
            KeyArns=arn("kms", "key/1a2b"),
            KinesisStreamArns=f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/features",
            ModelSecretArns=f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:model-1a2b3c",
            EndpointArns=f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/ships",
        )
        for bucket in ("others", "more"):
            put_image(bucket, "a.tif", folder)
        put_image(made.outputs["ImageBucket"], "incoming/a.tif", folder)
        put_image("secret", "a.tif", folder)
        yield made
    forget()


def forget(*, tls: bool = False) -> None:
    """Reset Swath's clients; with `tls`, requests look as if a proxy had terminated TLS."""
    clients.renew_credentials()
    if tls:
        clients.session(None).events.register("before-sign", _proxied)


def _proxied(request: AWSRequest, **_: object) -> None:
    request.headers["X-Forwarded-Proto"] = "https"


def put_image(bucket: str, key: str, folder: Path) -> None:
    path = folder / "a.tif"
    pixels = np.arange(64 * 64, dtype=np.uint8).reshape(1, 64, 64)
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "uint8"}
    place = {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 10, 0, -1e-5, 50)}
    with rasterio.open(path, "w", **profile, **place) as sink:
        sink.write(pixels)
    client("s3").put_object(Bucket=bucket, Key=key, Body=path.read_bytes())


@contextmanager
def acting_as(stack: Stack, role: str, *, tls: bool = True) -> Iterator[None]:
    """Give this process a role's credentials, as ECS gives them to a task."""
    name = stack.resources[role]
    trust = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    client("iam").update_assume_role_policy(
        RoleName=name,
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    given = client("sts").assume_role(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{name}", RoleSessionName="task"
    )["Credentials"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", given["AccessKeyId"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", given["SecretAccessKey"])
        patch.setenv("AWS_SESSION_TOKEN", given["SessionToken"])
        patch.setenv("SWATH_WORK_URI", f"s3://{stack.outputs['ResultsBucket']}/work")
        for name in ("SWATH_STORAGE_PATIENCE", "SWATH_READ_PATIENCE"):
            patch.setenv(name, "0.1")  # what is refused stays refused
        forget(tls=tls)
        settings.cache_clear()
        try:
            yield
        finally:
            patch.undo()
            forget(tls=True)
            settings.cache_clear()


def request_of(stack: Stack, url: str, bucket: str) -> Request:
    return Request.model_validate(
        {
            "jobId": "job",
            "imageUrls": [url],
            "outputs": [{"type": "S3", "bucket": bucket, "prefix": "results"}],
            "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
            "imageProcessorTileSize": 64,
        }
    )


def refused(call: Callable[[], Any]) -> bool:
    """Whether a call fails because AWS denies it."""
    try:
        call()
    except (ClientError, SwathError) as error:
        text = f"{error} {error.__cause__}"
        assert any(
            word in text for word in ("AccessDenied", "AuthorizationError", "403", "Forbidden")
        ), text
        return True
    return False


def allows(stack: Stack, role: str, action: str, resource: str, **context: str) -> bool:
    """Evaluate a role's policies for one request.

    For what the emulator does not tell its policies: the ECS task, its tags, its task definition.
    """
    name, iam = stack.resources[role], client("iam")
    inline = [
        iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
    ]
    attached = [
        iam.get_policy_version(PolicyArn=each["PolicyArn"], VersionId="v1")["PolicyVersion"]
        for each in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    ]
    documents = inline + [version["Document"] for version in attached]
    request = EvalContext(
        principal_arn=arn("iam", f"role/{name}"),
        principal_type="AssumedRole",
        principal_account=ACCOUNT,
        action=action,
        resource_arn=resource,
        region="us-east-1",
        secure_transport=True,
        service_context={key.lower(): value for key, value in context.items()},
    )
    parsed = [parse_policy_document(document) for document in documents]
    return bool(evaluate(request, parsed).decision == "Allow")


def arn(service: str, resource: str) -> str:
    """The ARN of a resource in this account and region."""
    region = "" if service == "iam" else "us-east-1"
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{resource}"


def test_plain_http_is_refused_for_every_role(stack: Stack) -> None:
    image = f"s3://{stack.outputs['ImageBucket']}/incoming/a.tif"
    with acting_as(stack, "RegionRole", tls=False):
        assert refused(lambda: objects.get(image))
        assert refused(lambda: objects.put(f"{settings().work_uri}/a", b"x"))
    with acting_as(stack, "SensorRole", tls=False):
        assert refused(lambda: open_queue(stack.outputs["QueueUrl"]))


def test_only_the_stacks_own_bucket_may_send_requests(stack: Stack) -> None:
    queue = client("sqs").get_queue_attributes(
        QueueUrl=stack.outputs["QueueUrl"], AttributeNames=["QueueArn"]
    )
    target = {"QueueArn": queue["Attributes"]["QueueArn"], "Events": ["s3:ObjectCreated:*"]}
    with pytest.raises(ClientError, match="Unable to validate"):
        client("s3").put_bucket_notification_configuration(
            Bucket="secret", NotificationConfiguration={"QueueConfigurations": [target]}
        )
    client("s3").put_bucket_notification_configuration(
        Bucket=stack.outputs["ImageBucket"],
        NotificationConfiguration={"QueueConfigurations": [target]},
    )


def test_the_sensor_reads_requests_and_templates_and_publishes_refusals(stack: Stack) -> None:
    url, bucket = stack.outputs["QueueUrl"], stack.outputs["ImageBucket"]
    for folder in ("", "incoming/ships/"):
        client("s3").put_object(Bucket=bucket, Key=f"{folder}request.json", Body=b"{}")
    for number in range(2):
        send(url, f"request {number}")
    with acting_as(stack, "SensorRole"):
        queue = open_queue(url)
        first, second = two_requests(queue)
        queue.extend(first)
        queue.acknowledge(first)
        queue.dead_letter(second, "no JSON")
        tell(stack)
        assert objects.get(f"s3://{bucket}/request.json") == b"{}"
        assert objects.get(f"s3://{bucket}/incoming/ships/request.json") == b"{}"
        assert not objects.exists(f"s3://{bucket}/incoming/request.json")
        assert refused(lambda: objects.get(f"s3://{bucket}/incoming/a.tif"))
        assert refused(lambda: objects.put(f"s3://{bucket}/incoming/request.json", b"{}"))
        assert refused(lambda: objects.put(f"s3://{stack.outputs['ResultsBucket']}/a", b"x"))
        assert refused(lambda: send(url, "a request"))
        assert refused(lambda: open_queue(stack.outputs["ObserverQueueUrl"]))
    aside = client("sqs").receive_message(QueueUrl=queue.dead_letter_url, VisibilityTimeout=0)
    assert [message["Body"] for message in aside["Messages"]] == [second.body]


def test_the_sensor_refuses_what_sqs_itself_moved_to_the_dead_letter_queue(stack: Stack) -> None:
    url = stack.outputs["QueueUrl"]
    send(url, "a deadly request")
    for _ in range(4):  # in the last one SQS moves it
        client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    with acting_as(stack, "SensorRole"):
        queue = open_queue(url)
        (deadly,) = [each for each in queue.moved_by_sqs() if each.body == "a deadly request"]
        queue.dead_letter(deadly, "no sensor was done with it")
        assert "a deadly request" not in {each.body for each in queue.moved_by_sqs()}


def test_the_sensor_ends_records_and_removes_old_answers(stack: Stack) -> None:
    url = f"s3://{stack.outputs['ImageBucket']}/incoming/a.tif"
    message = {
        "jobId": "old",
        "imageUrls": [url],
        "outputs": [{"type": "S3", "bucket": "published", "prefix": "a"}],
        "imageProcessor": {"name": "ships", "type": "SM_ENDPOINT"},
    }
    recorder = Recorder("old", url, "run-1")
    with acting_as(stack, "ImageRole"):
        recorder.began(Request.parse(json.dumps(message)))
        objects.put(objects.join(image_folder("old", url), "question", "answers", "a"), b"x")
    with acting_as(stack, "SensorRole"):
        recorder.ended(JobStatus.FAILED, "its task was killed")
        (record,) = read_records("old")
        assert (record.status, record.message) == ("FAILED", "its task was killed")
        assert read_record("old", "s3://images/other.tif") is None
        assert sweep(datetime.now(UTC) + timedelta(days=13), lambda _: False) == 0
        assert sweep(datetime.now(UTC) + timedelta(days=15), lambda _: False) == 1
        assert objects.list_folders(jobs_folder()) == []


def two_requests(queue: Queue) -> list[Any]:
    """Two requests, among notices of S3's."""
    found: list[Any] = []
    for _ in range(10):
        found += [m for m in queue.receive(10, 1) if m.body.startswith("request")]
        if len(found) == 2:
            break
    return found


def test_a_region_can_only_read_images_and_write_working_files(stack: Stack) -> None:
    images, results = stack.outputs["ImageBucket"], stack.outputs["ResultsBucket"]
    with acting_as(stack, "RegionRole"):
        for url in (f"s3://{images}/incoming/a.tif", "s3://others/a.tif", "s3://more/a.tif"):
            plan = make_plan(request_of(stack, url, results), url)
            (region,) = plan.regions(4096)
            (tile,) = plan.read(plan.tiles_in_roi(region))
            assert isinstance(tile, TilePixels)
            findings = without_detections(plan.tiles_in_roi(region), TileState.FAILED, "a test")
            work = objects.join(settings().work_uri, "run")
            store = RegionStore(work)
            stored = store.save(region, 1, [], SCHEMA.empty_table(), findings.ledger)
            assert store.latest([region]) == {region.index: stored}
            assert len(store.ledger(stored)) == len(plan.grid)
        with pytest.raises(SwathError, match="there is no such object"):
            make_plan(
                request_of(stack, f"s3://{images}/none.tif", results), f"s3://{images}/none.tif"
            )
        objects.remove(work)
        assert refused(lambda: objects.get("s3://secret/a.tif"))
        assert refused(lambda: objects.put(f"s3://{results}/results/a.geojson", b"x"))
        assert refused(lambda: objects.get(f"s3://{results}/results/a.geojson"))
        assert refused(lambda: objects.remove(f"s3://{results}/results"))
        assert refused(lambda: objects.put(f"s3://{images}/incoming/b.tif", b"x"))
        assert refused(lambda: client("s3").delete_object(Bucket=images, Key="incoming/a.tif"))
        assert refused(lambda: objects.put("s3://published/a.geojson", b"x"))
        assert refused(lambda: open_queue(stack.outputs["QueueUrl"]))
        assert refused(lambda: tell(stack))
        assert refused(lambda: read_secret(stack.resources["DatabaseSecret"]))


def tell(stack: Stack) -> None:
    """Publish a status; `publish_status` would only log that it may not."""
    client("sns").publish(TopicArn=stack.outputs["StatusTopicArn"], Message="a status")


def read_secret(arn: str) -> None:
    client("secretsmanager").get_secret_value(SecretId=arn)


def test_an_image_run_publishes_and_removes_working_files(stack: Stack) -> None:
    images, results = stack.outputs["ImageBucket"], stack.outputs["ResultsBucket"]
    url = f"s3://{images}/incoming/a.tif"
    with acting_as(stack, "ImageRole"):
        for bucket in (results, "published", "gazette"):
            assert check_plan(request_of(stack, url, bucket), url).image.width == 64
            objects.put(f"s3://{bucket}/results/a.geojson", b"x" * (9 << 20))  # in several parts
            earlier = conditional.version_of(f"s3://{bucket}/results/a.geojson")
            assert earlier is not None
            assert conditional.remove_if(f"s3://{bucket}/results/a.geojson", earlier)
        assert refused(lambda: check_plan(request_of(stack, url, "secret"), url))
        work = objects.join(settings().work_uri, "run")
        objects.put(f"{work}/region-00000.ledger.parquet", b"x")
        assert objects.get(f"{work}/region-00000.ledger.parquet") == b"x"
        objects.remove(work)
        assert not objects.exists(f"{work}/region-00000.ledger.parquet")
        tell(stack)
        assert stream_status("features") in {"CREATING", "ACTIVE"}
        assert refused(lambda: stream_status("others"))
        assert refused(lambda: objects.put(f"s3://{images}/incoming/b.tif", b"x"))
        assert refused(lambda: open_queue(stack.outputs["QueueUrl"]))
        assert refused(lambda: read_secret(stack.resources["DatabaseSecret"]))


def test_the_worker_reads_state_changes_of_tasks_and_no_data(stack: Stack) -> None:
    observer = stack.outputs["ObserverQueueUrl"].rpartition("/")[2]
    send(stack.outputs["ObserverQueueUrl"], "{}")
    with acting_as(stack, "WorkerRole"):
        url = client("sqs").get_queue_url(QueueName=observer)["QueueUrl"]
        (event,) = client("sqs").receive_message(QueueUrl=url)["Messages"]
        receipt = {"QueueUrl": url, "ReceiptHandle": event["ReceiptHandle"]}
        client("sqs").change_message_visibility(**receipt, VisibilityTimeout=300)
        client("sqs").delete_message(**receipt)
        assert refused(lambda: send(url, "{}"))
        assert refused(lambda: open_queue(stack.outputs["QueueUrl"]))
        assert refused(lambda: objects.get(f"s3://{stack.outputs['ImageBucket']}/incoming/a.tif"))
        assert refused(lambda: objects.put(f"{settings().work_uri}/a", b"x"))
        assert refused(lambda: read_secret(stack.resources["DatabaseSecret"]))


def test_the_worker_can_only_run_the_three_flows_in_its_cluster(stack: Stack) -> None:
    def starts(family: str, cluster: str = stack.outputs["ClusterName"]) -> bool:
        definition = arn("ecs", f"task-definition/{family}:7")
        of = {"ecs:cluster": arn("ecs", f"cluster/{cluster}")}
        return allows(stack, "WorkerRole", "ecs:RunTask", definition, **of)

    assert all(starts(f"{stack.name}-{flow}") for flow in ("sensor", "image", "region"))
    assert not any(starts(f"{stack.name}-{process}") for process in ("server", "worker"))
    assert not starts(f"{stack.name}-image", cluster="others")
    assert not starts("others-image")
    for action in ("ecs:RegisterTaskDefinition", "ecs:UpdateService", "ecs:ExecuteCommand"):
        assert not allows(stack, "WorkerRole", action, arn("ecs", "cluster/any"))
    for role in ("SensorRole", "ImageRole", "RegionRole", "ServerRole"):
        definition = arn("ecs", f"task-definition/{stack.name}-image:1")
        assert not allows(stack, role, "ecs:RunTask", definition)


def test_the_worker_can_tag_tasks_at_their_start_and_describe_them(stack: Stack) -> None:
    task = arn("ecs", f"task/{stack.outputs['ClusterName']}/0123")
    tag = {"ecs:CreateAction": "RunTask"}
    assert allows(stack, "WorkerRole", "ecs:TagResource", task, **tag)
    assert not allows(stack, "WorkerRole", "ecs:TagResource", task)
    assert allows(stack, "WorkerRole", "ecs:DescribeTasks", task)
    assert not allows(stack, "WorkerRole", "ecs:DescribeTasks", arn("ecs", "task/others/0"))
    definition = arn("ecs", f"task-definition/{stack.name}-image:1")
    assert allows(stack, "WorkerRole", "ecs:DescribeTaskDefinition", definition)


def test_only_roles_of_flows_can_be_passed_to_a_task(stack: Stack) -> None:
    def passes(role: str, service: str) -> bool:
        target = arn("iam", f"role/{stack.resources[role]}")
        to = {"iam:PassedToService": service}
        return allows(stack, "WorkerRole", "iam:PassRole", target, **to)

    roles = sorted(name for name in stack.resources if name.endswith("Role"))
    assert [role for role in roles if passes(role, "ecs-tasks.amazonaws.com")] == [
        "ExecutionRole",
        "ImageRole",
        "RegionRole",
        "SensorRole",
    ]
    assert not any(passes(role, "ec2.amazonaws.com") for role in roles)


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("WorkerRole", True),
        ("SensorRole", True),
        ("ImageRole", True),
        ("RegionRole", False),
        ("ServerRole", False),
    ],
)
def test_tasks_of_flows_can_be_stopped_but_not_the_server_or_the_worker(
    stack: Stack, role: str, *, may: bool
) -> None:
    of_a_run = {"aws:ResourceTag/prefect.io/flow-run-id": "0199a8b0-0000-7000-8000-000000000000"}
    task = arn("ecs", f"task/{stack.outputs['ClusterName']}/0123")
    assert allows(stack, role, "ecs:StopTask", task, **of_a_run) is may
    assert not allows(stack, role, "ecs:StopTask", task)
    elsewhere = arn("ecs", "task/others/0123")
    assert not allows(stack, role, "ecs:StopTask", elsewhere, **of_a_run)


@pytest.mark.parametrize(
    ("role", "lists"),
    [("SensorRole", ["ResultsBucket"]), ("RegionRole", ["others", "more"]), ("WorkerRole", None)],
)
def test_an_absent_object_gives_404_and_not_403(
    stack: Stack, role: str, lists: list[str] | None
) -> None:
    """S3 answers 404 to those alone who may list the bucket."""
    names = [] if lists is None else ["ImageBucket", *lists]
    wanted = {stack.outputs.get(name, name) for name in names}
    buckets = {*stack.outputs.values(), "others", "more", "published", "secret"}
    may = {
        bucket
        for bucket in buckets
        if allows(stack, role, "s3:ListBucket", f"arn:aws:s3:::{bucket}")
    }
    assert may == wanted


def test_kms_keys_can_be_used_through_the_encrypted_resources_only(stack: Stack) -> None:
    key, s3 = arn("kms", "key/1a2b"), {"kms:ViaService": "s3.us-west-2.amazonaws.com"}
    secrets = {"kms:ViaService": "secretsmanager.us-east-1.amazonaws.com"}
    for role in ("ImageRole", "RegionRole"):
        assert allows(stack, role, "kms:Decrypt", key, **s3)
        assert allows(stack, role, "kms:Decrypt", key, **secrets)
        assert not allows(stack, role, "kms:Decrypt", key)
        assert allows(stack, role, "kms:GenerateDataKey", key, **s3) is (role == "ImageRole")


def test_only_image_and_region_runs_call_models_and_only_listed_ones(stack: Stack) -> None:
    ships, cars = (arn("sagemaker", f"endpoint/{name}") for name in ("ships", "cars"))
    secret = arn("secretsmanager", "secret:model-1a2b3c")
    for role in ("ImageRole", "RegionRole"):
        for action in ("InvokeEndpoint", "InvokeEndpointAsync", "DescribeEndpoint", "ListTags"):
            assert allows(stack, role, f"sagemaker:{action}", ships)
            assert not allows(stack, role, f"sagemaker:{action}", cars)
        assert allows(stack, role, "secretsmanager:GetSecretValue", secret)
        assert not allows(stack, role, "sts:AssumeRole", arn("iam", "role/any"))
    for role in ("SensorRole", "WorkerRole", "ServerRole", "ExecutionRole"):
        assert not allows(stack, role, "sagemaker:InvokeEndpoint", ships)
        assert not allows(stack, role, "secretsmanager:GetSecretValue", secret)


def test_only_the_execution_role_of_the_server_reads_the_database_password(stack: Stack) -> None:
    password = stack.resources["DatabaseSecret"]
    may = [
        role
        for role in sorted(stack.resources)
        if role.endswith("Role") and allows(stack, role, "secretsmanager:GetSecretValue", password)
    ]
    assert may == ["ServerExecutionRole"]


def test_logs_are_written_by_ecs_and_read_by_the_worker(stack: Stack) -> None:
    def may(action: str, group: str = stack.outputs["LogGroupName"]) -> list[str]:
        stream = arn("logs", f"log-group:{group}:log-stream:image/prefect/0123")
        roles = sorted(name for name in stack.resources if name.endswith("Role"))
        return [role for role in roles if allows(stack, role, action, stream)]

    assert may("logs:PutLogEvents") == ["ExecutionRole", "ServerExecutionRole"]
    assert may("logs:CreateLogStream") == ["ExecutionRole", "ServerExecutionRole"]
    assert may("logs:GetLogEvents") == ["WorkerRole"]
    assert may("logs:GetLogEvents", "/swath/others") == []
