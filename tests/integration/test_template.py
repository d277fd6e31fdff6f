"""Stacks of the template, made, changed and deleted by an emulated CloudFormation."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from deployments.aws.pool import CONTAINER, job_template
from tasks.aws.clients import client
from tasks.queue.sqs import open_queue
from tasks.settings import Settings
from tests.stacks import GPU_IMAGE, IMAGE, TEMPLATE, Network, Stack, make_network, make_stack

ELSEWHERE = "https://prefect.example.org/api"
HOSTS = ["models.example.org:8080", "*.inference.example.org", "10.0.0.7"]
ROLES = [f"arn:aws:iam::123456789012:role/{name}" for name in ("Invoke", "Read")]
KEY = "arn:aws:secretsmanager:us-east-1:000000000000:secret:prefect-key-1a2b3c"
PASSWORD = "arn:aws:secretsmanager:us-east-1:000000000000:secret:prefect-password-4d5e6f"

REGIONS = ("us-east-1", "us-west-2", "eu-central-1", "us-gov-west-1", "us-gov-east-1")


@pytest.fixture(scope="module")
def network(aws: str) -> Network:
    return make_network()


@pytest.fixture(scope="module")
def stack(aws: str, network: Network) -> Stack:
    """A stack with its own Prefect server."""
    return make_stack(aws, network)


@pytest.fixture(scope="module")
def guest(aws: str, network: Network) -> Stack:
    """A stack that uses a Prefect server that is there already."""
    return make_stack(
        aws,
        network,
        PrefectApiUrl=ELSEWHERE,
        PrefectApiKeySecretArn=KEY,
        PrefectApiPasswordSecretArn=PASSWORD,
        AssignPublicIp="true",
        EgressCidr="10.1.0.0/16",
        AlarmEmail="watch@example.org",
        DemUri="s3://heights/world.vrt",
        EndpointHosts=",".join(HOSTS),
        AssumableRoleArns=",".join(ROLES),
        GpuImage=GPU_IMAGE,
        GpuInstanceType="g4dn.xlarge",
        GpuMaxInstances="2",
    )


def task_definition(aws: str, stack: Stack, process: str) -> dict[str, Any]:
    """A task definition as it is, since boto3 hides what the emulator writes with capitals."""
    answer = httpx.post(
        aws,
        headers={
            "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.DescribeTaskDefinition",
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": "AWS4-HMAC-SHA256 Credential=swath/20260101/us-east-1/ecs/x",
        },
        json={"taskDefinition": f"{stack.name}-{process}"},
    )
    definition: dict[str, Any] = answer.raise_for_status().json()["taskDefinition"]
    return definition


def environment(aws: str, stack: Stack, process: str) -> dict[str, str]:
    (container,) = task_definition(aws, stack, process)["containerDefinitions"]
    return {variable["name"]: variable["value"] for variable in container["environment"]}


def secrets(aws: str, stack: Stack, process: str) -> dict[str, str]:
    (container,) = task_definition(aws, stack, process)["containerDefinitions"]
    return {secret["Name"]: secret["ValueFrom"] for secret in container["secrets"]}


def attributes(url: str) -> dict[str, str]:
    answer = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    found: dict[str, str] = answer["Attributes"]
    return found


def messages(url: str, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Bodies on a queue that are wanted, as soon as there is one; taken off it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        got = client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        bodies = []
        for message in got.get("Messages", []):
            client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            bodies.append(json.loads(message["Body"]))
        if found := [body for body in bodies if wanted(body)]:
            return found
    return []


def test_the_outputs_of_a_stack_name_its_resources(stack: Stack) -> None:
    assert stack.outputs["QueueUrl"] == stack.resources["RequestQueue"]
    assert stack.outputs["DeadLetterQueueUrl"] == stack.resources["DeadLetterQueue"]
    assert stack.outputs["StatusTopicArn"] == stack.resources["StatusTopic"]
    assert stack.outputs["ResultsBucket"] == stack.resources["ResultsBucket"]
    assert stack.outputs["ImageBucket"] == stack.resources["ImageBucket"]
    assert stack.outputs["ClusterName"] == stack.resources["Cluster"]
    assert stack.outputs["LogGroupName"] == f"/swath/{stack.name}"
    assert stack.outputs["PrefectApiUrl"] == f"http://server.{stack.name}.internal:4200/api"


def test_the_request_queue_has_a_dead_letter_queue(stack: Stack) -> None:
    queue = open_queue(stack.outputs["QueueUrl"])
    assert queue.dead_letter_url == stack.outputs["DeadLetterQueueUrl"]
    assert queue.max_receive_count == 3
    kept = attributes(queue.dead_letter_url)
    assert (kept["MessageRetentionPeriod"], kept["SqsManagedSseEnabled"]) == ("1209600", "true")


def test_a_new_object_below_the_prefix_sends_a_message_to_the_request_queue(stack: Stack) -> None:
    bucket, queue = stack.outputs["ImageBucket"], stack.outputs["QueueUrl"]
    client("s3").put_object(Bucket=bucket, Key="outgoing/a.tif", Body=b"x")
    client("s3").put_object(Bucket=bucket, Key="incoming/ships/a b.tif", Body=b"x")
    received = messages(queue, lambda body: "Records" in body)
    records = [record for body in received for record in body["Records"]]
    assert [record["s3"]["object"]["key"] for record in records] == ["incoming/ships/a+b.tif"]
    assert records[0]["s3"]["bucket"]["name"] == bucket
    assert records[0]["eventName"].startswith("ObjectCreated:")


def test_state_changes_of_tasks_reach_the_observer_queue(stack: Stack) -> None:
    (rule,) = [
        rule
        for rule in client("events").list_rules()["Rules"]
        if rule["Name"] == stack.resources["TaskEvents"]
    ]
    cluster = client("ecs").describe_clusters(clusters=[stack.outputs["ClusterName"]])
    arn = cluster["clusters"][0]["clusterArn"]
    stopped = {"clusterArn": arn, "lastStatus": "STOPPED", "taskArn": "arn:aws:ecs:task"}

    def matches(source: str, **detail: str) -> bool:
        event = {
            "id": "1",
            "version": "0",
            "account": "000000000000",
            "region": "us-east-1",
            "time": "2026-01-01T00:00:00Z",
            "resources": [],
            "source": source,
            "detail-type": "ECS Task State Change",
            "detail": stopped | detail,
        }
        answer = client("events").test_event_pattern(
            EventPattern=rule["EventPattern"], Event=json.dumps(event)
        )
        return bool(answer["Result"])

    assert matches("aws.ecs")
    assert not matches("aws.ecs", clusterArn=arn + "-of-others")
    assert not matches("aws.ec2")

    # only AWS may send events of aws.ecs, so the rule is changed to another source for this test
    event = {"Source": "test.ecs", "DetailType": "ECS Task State Change"}
    pattern = json.loads(rule["EventPattern"]) | {"source": ["test.ecs"]}
    client("events").put_rule(Name=rule["Name"], EventPattern=json.dumps(pattern))
    sent = client("events").put_events(Entries=[event | {"Detail": json.dumps(stopped)}])
    assert sent["FailedEntryCount"] == 0
    arrived = messages(stack.outputs["ObserverQueueUrl"], lambda body: "detail" in body)
    client("events").put_rule(Name=rule["Name"], EventPattern=rule["EventPattern"])
    assert [event["detail"] for event in arrived] == [stopped]
    assert arrived[0]["detail-type"] == "ECS Task State Change"


def test_each_process_has_its_own_role_and_the_same_image(aws: str, stack: Stack) -> None:
    roles = set()
    for process in ("sensor", "image", "region", "worker", "server"):
        definition = task_definition(aws, stack, process)
        (container,) = definition["containerDefinitions"]
        role = stack.resources[f"{process.capitalize()}Role"]
        assert definition["taskRoleArn"].endswith(f":role/{role}")
        assert definition["requiresCompatibilities"] == ["FARGATE"]
        assert container["image"] == IMAGE
        assert container["logConfiguration"]["options"]["awslogs-group"] == f"/swath/{stack.name}"
        execution = "ServerExecutionRole" if process == "server" else "ExecutionRole"
        assert definition["executionRoleArn"].endswith(f":role/{stack.resources[execution]}")
        roles.add(definition["taskRoleArn"])
    assert len(roles) == 5


def test_the_settings_of_the_flows_name_resources_of_the_stack(
    aws: str, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_of = {
        process: environment(aws, stack, process) for process in ("sensor", "image", "region")
    }
    for variables in settings_of.values():
        assert variables["PREFECT_API_URL"] == stack.outputs["PrefectApiUrl"]
        assert variables["SWATH_WORK_URI"] == f"s3://{stack.outputs['ResultsBucket']}/work"
        assert variables["SWATH_STATUS_TOPIC_ARN"] == stack.outputs["StatusTopicArn"]
    for name, value in settings_of["sensor"].items():
        monkeypatch.setenv(name, value)
    sensor = Settings()
    assert sensor.queue_url == stack.outputs["QueueUrl"]
    assert sensor.image_deployment == "image/image-ecs"
    assert sensor.region_deployment == "region/region-ecs"
    assert sensor.dem_uri is None


def test_the_worker_runs_task_definitions_of_the_stack_in_its_network(
    aws: str, stack: Stack, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(aws, stack, "worker").items():
        monkeypatch.setenv(name, value)
    request = job_template(Settings())["job_configuration"]["task_run_request"]
    reached = request["networkConfiguration"]
    assert reached["awsvpcConfiguration"] == {
        "subnets": list(network.subnets),
        "securityGroups": [
            stack.outputs["TaskSecurityGroupId"],
            stack.outputs["ServerClientsGroupId"],
        ],
        "assignPublicIp": "{{ public_ip }}",
    }
    for process in ("sensor", "image", "region"):
        answer = client("ecs").run_task(
            cluster=request["cluster"],
            taskDefinition=request["taskDefinition"].replace("{{ task }}", process),
            launchType="FARGATE",
            networkConfiguration=reached,
            overrides={"containerOverrides": [{"name": CONTAINER, "command": ["true"]}]},
        )
        (task,) = answer["tasks"]
        assert task["clusterArn"].endswith(f"/{stack.outputs['ClusterName']}")
        assert f":task-definition/{stack.name}-{process}:" in task["taskDefinitionArn"]


def test_regions_of_onnx_models_run_on_machines_with_a_gpu(
    aws: str, guest: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = task_definition(aws, guest, "region-gpu")
    (container,) = definition["containerDefinitions"]
    assert definition["requiresCompatibilities"] == ["EC2"]
    assert container["image"] == GPU_IMAGE
    assert container["resourceRequirements"] == [{"Type": "GPU", "Value": "1"}]
    same = environment(aws, guest, "region")
    assert environment(aws, guest, "region-gpu") == same
    for process in ("image", "region"):
        chosen = environment(aws, guest, process)["SWATH_ONNX_REGION_DEPLOYMENT"]
        assert chosen == "region/region-ecs-gpu"
    for name, value in environment(aws, guest, "worker").items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.ecs_gpu_instances, settings.ecs_public_ip) == (2, True)
    (task,) = client("ecs").run_task(  # without a launch type, as its deployment says
        cluster=settings.ecs_cluster, taskDefinition=f"{guest.name}-region-gpu"
    )["tasks"]
    assert task["capacityProviderName"] == f"{guest.name}-gpu"


def test_machines_with_a_gpu_join_the_cluster_and_are_there_only_while_regions_wait(
    stack: Stack, guest: Stack
) -> None:
    (group,) = client("autoscaling").describe_auto_scaling_groups(
        AutoScalingGroupNames=[guest.resources["GpuInstances"]]
    )["AutoScalingGroups"]
    assert (group["MinSize"], group["MaxSize"]) == (0, 2)
    (version,) = client("ec2").describe_launch_template_versions(
        LaunchTemplateId=guest.resources["GpuInstance"], Versions=["$Latest"]
    )["LaunchTemplateVersions"]
    machine = version["LaunchTemplateData"]
    assert machine["InstanceType"] == "g4dn.xlarge"
    script = base64.b64decode(machine["UserData"]).decode()
    assert f"ECS_CLUSTER={guest.outputs['ClusterName']}\n" in script
    assert not [name for name in stack.resources if "Gpu" in name]


def test_the_server_gets_the_database_password_from_ecs(aws: str, stack: Stack) -> None:
    variables = environment(aws, stack, "server")
    (database,) = client("rds").describe_db_instances(
        DBInstanceIdentifier=stack.resources["Database"]
    )["DBInstances"]
    assert variables["PREFECT_SERVER_DATABASE_HOST"] == database["Endpoint"]["Address"]
    assert variables["PREFECT_SERVER_DATABASE_PORT"] == str(database["Endpoint"]["Port"])
    assert variables["PREFECT_SERVER_DATABASE_USER"] == database["MasterUsername"]
    assert variables["PREFECT_SERVER_DATABASE_NAME"] == database["DBName"]
    assert database["StorageEncrypted"]
    handed = secrets(aws, stack, "server")["PREFECT_SERVER_DATABASE_PASSWORD"]
    arn, key, stage, version = handed.rsplit(":", 3)
    assert (arn, stage, version) == (stack.resources["DatabaseSecret"], "", "")
    kept = json.loads(client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"])
    assert (kept["username"], len(kept[key])) == ("prefect", 40)
    assert kept[key] not in json.dumps(task_definition(aws, stack, "server"))


def test_the_server_runs_in_the_subnets_of_its_files_and_allows_ecs_exec(stack: Stack) -> None:
    services = client("ecs").describe_services(
        cluster=stack.outputs["ClusterName"],
        services=[stack.resources["ServerService"], stack.resources["WorkerService"]],
    )["services"]
    server, worker = services
    assert [service["desiredCount"] for service in services] == [1, 1]
    files = client("efs").describe_mount_targets(FileSystemId=stack.resources["Files"])
    targets = {target["SubnetId"] for target in files["MountTargets"]}
    assert targets == set(server["networkConfiguration"]["awsvpcConfiguration"]["subnets"])
    assert worker["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"] == [
        stack.outputs["TaskSecurityGroupId"],
        stack.outputs["ServerClientsGroupId"],
    ]


def test_with_an_existing_server_there_is_no_other_and_every_process_may_use_it(
    aws: str, guest: Stack
) -> None:
    absent = {"ServerService", "ServerTask", "Database", "Files", "Namespace", "ServerRole"}
    assert not absent.intersection(guest.resources)
    assert guest.outputs["PrefectApiUrl"] == ELSEWHERE
    for process in ("sensor", "image", "region", "worker"):
        assert environment(aws, guest, process)["PREFECT_API_URL"] == ELSEWHERE
        assert secrets(aws, guest, process) == {
            "PREFECT_API_KEY": KEY,
            "PREFECT_API_AUTH_STRING": PASSWORD,
        }
    worker = environment(aws, guest, "worker")
    assert json.loads(worker["SWATH_ECS_SECURITY_GROUPS"]) == [guest.outputs["TaskSecurityGroupId"]]
    assert worker["SWATH_ECS_PUBLIC_IP"] == "true"
    assert environment(aws, guest, "region")["SWATH_DEM_URI"] == "s3://heights/world.vrt"


def test_tasks_can_call_https_anywhere_and_other_ports_in_the_given_range_only(
    stack: Stack, guest: Stack
) -> None:
    def ways_out(of: Stack) -> set[tuple[int, str]]:
        (group,) = client("ec2").describe_security_groups(
            GroupIds=[of.outputs["TaskSecurityGroupId"]]
        )["SecurityGroups"]
        return {
            (rule["FromPort"], to)
            for rule in group["IpPermissionsEgress"]
            for to in [r["CidrIp"] for r in rule["IpRanges"]]
            + [p["GroupId"] for p in rule["UserIdGroupPairs"]]
        }

    server = stack.resources["ServerSecurityGroup"]
    assert ways_out(stack) == {(443, "0.0.0.0/0"), (4200, server)}
    assert ways_out(guest) == {(443, "0.0.0.0/0"), (1, "10.1.0.0/16")}


def test_alarms_monitor_resources_of_the_stack(stack: Stack, guest: Stack) -> None:
    def watched(of: Stack) -> dict[str, dict[str, str]]:
        found = client("cloudwatch").get_paginator("describe_alarms").paginate()
        return {
            logical: {d["Name"]: d["Value"] for d in alarm["Dimensions"]}
            for page in found
            for alarm in page["MetricAlarms"]
            for logical, physical in of.resources.items()
            if physical == alarm["AlarmName"]
            and alarm["AlarmActions"] == [of.outputs["AlarmTopicArn"]]
        }

    def queue(output: str) -> dict[str, str]:
        return {"QueueName": stack.outputs[output].rpartition("/")[2]}

    seen = watched(stack)
    assert seen["RequestsWait"] == queue("QueueUrl")
    assert seen["RequestsRefused"] == queue("DeadLetterQueueUrl")
    assert seen["EventsUnread"] == queue("ObserverQueueUrl")
    for alarm, service in (("WorkerDown", "WorkerService"), ("ServerDown", "ServerService")):
        assert seen[alarm] == {
            "ClusterName": stack.outputs["ClusterName"],
            "ServiceName": stack.resources[service].rpartition("/")[2],
        }
    assert watched(guest).keys() == seen.keys() - {"ServerDown"}
    (subscribed,) = client("sns").list_subscriptions_by_topic(
        TopicArn=guest.outputs["AlarmTopicArn"]
    )["Subscriptions"]
    assert (subscribed["Protocol"], subscribed["Endpoint"]) == ("email", "watch@example.org")


def test_the_dashboard_shows_alarms_of_the_stack(stack: Stack, guest: Stack) -> None:
    def shown(of: Stack) -> dict[str, Any]:
        name = of.outputs["DashboardName"]
        body = client("cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"]
        found: dict[str, Any] = json.loads(body)
        return found

    (alarms,) = [each for each in shown(stack)["widgets"] if each["type"] == "alarm"]
    assert len(alarms["properties"]["alarms"]) == 7
    assert all(":alarm:" in arn for arn in alarms["properties"]["alarms"])
    (others,) = [each for each in shown(guest)["widgets"] if each["type"] == "alarm"]
    assert len(others["properties"]["alarms"]) == 6  # no server
    assert f"/swath/{stack.name}" in json.dumps(shown(stack))


def test_metrics_of_alarms_are_made_of_lines_of_the_log(stack: Stack) -> None:
    made = client("logs").describe_metric_filters(logGroupName=stack.outputs["LogGroupName"])
    found = {
        each["metricTransformations"][0]["metricName"]: each["filterPattern"]
        for each in made["metricFilters"]
    }
    assert found.keys() == {"ImagesEnded", "ImagesIncomplete", "ModelsGivenUp", "OldestJob"}
    assert found["ImagesIncomplete"] == '{ $.Images > 0 && $.Status != "SUCCESS" }'


@pytest.mark.parametrize("process", ["image", "region"])
def test_the_hosts_and_roles_that_requests_may_name_are_those_of_the_parameters(
    aws: str, guest: Stack, process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = environment(aws, guest, process)
    for name in ("SWATH_ENDPOINT_HOSTS", "SWATH_ENDPOINT_ROLES"):
        monkeypatch.setenv(name, variables[name])
    listed = Settings()
    assert listed.endpoint_hosts == HOSTS
    assert listed.endpoint_roles == ROLES


@pytest.mark.parametrize("process", ["image", "region"])
def test_by_default_any_host_may_be_called_and_no_role_be_named(
    aws: str, stack: Stack, process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = environment(aws, stack, process)
    assert "SWATH_ENDPOINT_HOSTS" not in variables
    monkeypatch.setenv("SWATH_ENDPOINT_ROLES", variables["SWATH_ENDPOINT_ROLES"])
    assert Settings().endpoint_roles == []


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("IncomingPrefix", "incoming"),
        ("ReadBucketArns", "arn:aws:s3:::*"),
        ("AssumableRoleArns", "arn:aws:iam::123456789012:role/*"),
        ("AssumableRoleArns", "arn:aws:iam::123456789012:role/a,"),
        ("EndpointHosts", "https://models.example.org"),
        ("EndpointHosts", ",models.example.org"),
        ("PrefectApiUrl", "https://prefect.example.org/api/"),
        ("WorkerSize", "256/16384"),
        ("GpuInstanceType", "m7i.xlarge"),
        ("ModelSecretArns", "arn:aws:secretsmanager:us-east-1:123456789012:secret:*"),
    ],
)
def test_an_invalid_parameter_is_refused(
    aws: str, network: Network, parameter: str, value: str
) -> None:
    with pytest.raises(ClientError, match=parameter):
        make_stack(aws, network, **{parameter: value})


def test_an_update_keeps_resources_with_data(aws: str, network: Network, tmp_path: Path) -> None:
    before = make_stack(aws, network)
    bucket, queue = before.outputs["ImageBucket"], before.outputs["QueueUrl"]
    client("s3").put_object(Bucket=bucket, Key="incoming/kept.tif", Body=b"kept")
    after = before.update(
        WorkerSize="1024/2048", IncomingPrefix="new/", Image=IMAGE.replace(":1", ":2")
    )
    for kept in ("ImageBucket", "ResultsBucket", "RequestQueue", "Database", "Files", "Cluster"):
        assert after.resources[kept] == before.resources[kept]
    stored = client("s3").get_object(Bucket=bucket, Key="incoming/kept.tif")["Body"].read()
    assert stored == b"kept"
    worker = task_definition(aws, after, "worker")
    assert (worker["cpu"], worker["memory"]) == ("1024", "2048")
    assert worker["containerDefinitions"][0]["image"].endswith(":2")
    messages(queue, lambda body: "Records" in body)
    client("s3").put_object(Bucket=bucket, Key="incoming/b.tif", Body=b"x")
    client("s3").put_object(Bucket=bucket, Key="new/b.tif", Body=b"x")
    received = messages(queue, lambda body: "Records" in body)
    assert [body["Records"][0]["s3"]["object"]["key"] for body in received] == ["new/b.tif"]


def test_a_deleted_stack_retains_buckets_and_a_snapshot_and_can_be_created_again(
    aws: str, network: Network
) -> None:
    gone = make_stack(aws, network)
    bucket = gone.outputs["ImageBucket"]
    client("s3").put_object(Bucket=bucket, Key="incoming/kept.tif", Body=b"kept")
    gone.delete()
    buckets = {each["Name"] for each in client("s3").list_buckets()["Buckets"]}
    assert {bucket, gone.outputs["ResultsBucket"]} <= buckets
    assert client("s3").get_object(Bucket=bucket, Key="incoming/kept.tif")["Body"].read() == b"kept"
    snapshots = client("rds").describe_db_snapshots(
        DBInstanceIdentifier=gone.resources["Database"]
    )["DBSnapshots"]
    assert len(snapshots) == 1
    for url in ("QueueUrl", "DeadLetterQueueUrl", "ObserverQueueUrl"):
        with pytest.raises(ClientError, match="NonExistentQueue"):
            attributes(gone.outputs[url])
    with pytest.raises(ClientError, match="NoSuchEntity"):
        client("iam").get_role(RoleName=gone.resources["RegionRole"])
    groups = client("logs").describe_log_groups(logGroupNamePrefix=gone.outputs["LogGroupName"])
    assert groups["logGroups"] == []
    assert gone.resources["Files"] not in {
        each["FileSystemId"] for each in client("efs").describe_file_systems()["FileSystems"]
    }


def test_the_linter_finds_nothing_in_any_partition() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run(
        [linter, "--include-checks", "I", "--template", TEMPLATE, "--regions", *REGIONS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
