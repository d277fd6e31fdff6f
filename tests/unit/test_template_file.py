"""Properties of the CloudFormation template, checked on the template itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from cfnlint.decode import decode
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_valid_setting_names
from prefect_aws.settings import EcsObserverSqsSettings, EcsWorkerSettings

from tasks.queue.sqs import VISIBILITY
from tasks.settings import Settings
from tests.stacks import TEMPLATE

FLOWS = ("Sensor", "Image", "Region")
PROCESSES = (*FLOWS, "RegionGpu", "Worker", "Server")

WITHOUT_RESOURCES = {  # actions that can be allowed on all resources only
    "ecr:GetAuthorizationToken",
    "ecs:DescribeTaskDefinition",
    "ecs:DiscoverPollEndpoint",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
}
FARGATE = {  # memory sizes in MiB that Fargate supports, by CPU units
    256: {512, 1024, 2048},
    512: set(range(1024, 4097, 1024)),
    1024: set(range(2048, 8193, 1024)),
    2048: set(range(4096, 16385, 1024)),
    4096: set(range(8192, 30721, 1024)),
    8192: set(range(16384, 61441, 4096)),
}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    decoded, problems = decode(str(TEMPLATE))
    assert not problems
    return dict(decoded)


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    return dict(template["Resources"])


def of_type(resources: dict[str, Any], *types: str) -> dict[str, Any]:
    """Properties by logical name; at least one."""
    found = {
        name: resource["Properties"]
        for name, resource in resources.items()
        if resource["Type"] in types
    }
    assert found
    return found


def unconditional(value: Any) -> list[Any]:
    """A list with every member that a condition could put there."""
    return [
        branch
        for member in listed(value)
        for branch in (member["Fn::If"][1:] if "Fn::If" in member else [member])
        if branch != {"Ref": "AWS::NoValue"}
    ]


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def policies(resources: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement that allows a role something, with where it stands."""
    for name, properties in of_type(resources, "AWS::IAM::ManagedPolicy").items():
        for statement in unconditional(properties["PolicyDocument"]["Statement"]):
            yield name, statement
    for name, properties in of_type(resources, "AWS::IAM::Role").items():
        for policy in unconditional(properties.get("Policies", [])):
            for statement in unconditional(policy["PolicyDocument"]["Statement"]):
                yield name, statement


def container(resources: dict[str, Any], process: str) -> dict[str, Any]:
    (only,) = resources[f"{process}Task"]["Properties"]["ContainerDefinitions"]
    return dict(only)


def environment(resources: dict[str, Any], process: str) -> dict[str, Any]:
    variables = unconditional(container(resources, process)["Environment"])
    return {variable["Name"]: variable["Value"] for variable in variables}


def test_no_partition_account_or_region_is_written_down(template: dict[str, Any]) -> None:
    text = json.dumps({key: template[key] for key in ("Resources", "Outputs")})
    assert "arn:aws" not in text
    assert "us-east" not in text
    assert "amazonaws.com/" not in text


def test_every_parameter_has_a_group_and_a_description(template: dict[str, Any]) -> None:
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"].endswith("."), name
        free = parameter["Type"] in {"String", "CommaDelimitedList"}
        assert not free or "AllowedPattern" in parameter or "AllowedValues" in parameter, name


def test_roles_name_their_actions_and_resources(resources: dict[str, Any]) -> None:
    for where, statement in policies(resources):
        assert statement["Effect"] == "Allow", where
        actions = listed(statement["Action"])
        assert not any("*" in action for action in actions), (where, actions)
        if "*" in listed(statement["Resource"]):
            assert WITHOUT_RESOURCES.issuperset(actions), (where, actions)
        assert not {"NotAction", "NotResource"}.intersection(statement), where


def test_roles_can_be_assumed_by_ecs_tasks_and_machines_with_a_gpu_only(
    resources: dict[str, Any],
) -> None:
    for name, properties in of_type(resources, "AWS::IAM::Role").items():
        (statement,) = properties["AssumeRolePolicyDocument"]["Statement"]
        service = "ec2" if name == "GpuInstanceRole" else "ecs-tasks"
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}, name
        assert "RoleName" not in properties, "it would take CAPABILITY_NAMED_IAM"


def test_resources_with_data_are_private_encrypted_and_retained(
    resources: dict[str, Any],
) -> None:
    for name, properties in of_type(resources, "AWS::S3::Bucket").items():
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}, name
        assert properties["OwnershipControls"]["Rules"] == [
            {"ObjectOwnership": "BucketOwnerEnforced"}
        ]
        assert properties["BucketEncryption"]["ServerSideEncryptionConfiguration"], name
        assert resources[name]["DeletionPolicy"] == "Retain", name
        assert resources[name]["UpdateReplacePolicy"] == "Retain", name
    for name, properties in of_type(resources, "AWS::SQS::Queue").items():
        assert properties["SqsManagedSseEnabled"] is True, name
    database = resources["Database"]
    assert database["DeletionPolicy"] == database["UpdateReplacePolicy"] == "Snapshot"
    assert database["Properties"]["StorageEncrypted"] is True
    assert database["Properties"]["PubliclyAccessible"] is False
    generated = resources["DatabaseSecret"]["Properties"]["GenerateSecretString"]
    assert generated["ExcludePunctuation"] is True  # RDS takes no / @ " in a password
    assert resources["Files"]["Properties"]["Encrypted"] is True


def test_working_files_and_unfinished_uploads_expire(resources: dict[str, Any]) -> None:
    rules = {
        bucket: {rule["Id"]: rule for rule in properties["LifecycleConfiguration"]["Rules"]}
        for bucket, properties in of_type(resources, "AWS::S3::Bucket").items()
    }
    for of_bucket in rules.values():
        uploads = of_bucket["unfinished-uploads"]
        assert uploads["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 2}
        assert all(rule["Status"] == "Enabled" for rule in of_bucket.values())
    expiring = [
        r for of_bucket in rules.values() for r in of_bucket.values() if "ExpirationInDays" in r
    ]
    kept, sent = expiring  # nothing but working files expires
    assert (kept["Prefix"], kept["ExpirationInDays"]) == ("work/", {"Ref": "WorkExpirationDays"})
    assert (sent["Prefix"], sent["ExpirationInDays"]) == ("work/async/", 3)
    assert rules["ResultsBucket"]["kept-answers"] is kept


def test_answers_are_kept_as_long_as_the_settings_say_and_expire_later(
    template: dict[str, Any],
) -> None:
    defaults = {name: value.get("Default") for name, value in template["Parameters"].items()}
    fields = Settings.model_fields
    assert defaults["KeepAfterSuccessHours"] == fields["keep_after_success"].default
    assert defaults["KeepAnswersDays"] == fields["keep_answers"].default
    assert defaults["WorkExpirationDays"] >= 2 * defaults["KeepAnswersDays"]


@pytest.mark.parametrize(
    ("kind", "policy", "of"),
    [
        ("AWS::S3::Bucket", "AWS::S3::BucketPolicy", "Bucket"),
        ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "Queues"),
        ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "Topics"),
    ],
)
def test_buckets_queues_and_topics_require_tls(
    resources: dict[str, Any], kind: str, policy: str, of: str
) -> None:
    guarded = {}
    for properties in of_type(resources, policy).values():
        (target,) = listed(properties[of])
        guarded[target["Ref"]] = [
            statement["Effect"]
            for statement in properties["PolicyDocument"]["Statement"]
            if statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
            and statement["Principal"] == "*"
        ]
    assert guarded == {name: ["Deny"] for name in of_type(resources, kind)}


def test_the_visibility_timeout_of_the_queue_is_that_of_the_sensor(
    resources: dict[str, Any],
) -> None:
    queue = resources["RequestQueue"]["Properties"]
    assert queue["VisibilityTimeout"] == VISIBILITY
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 3


@pytest.mark.parametrize("process", PROCESSES)
def test_a_container_can_write_to_tmp_only_and_has_no_capabilities(
    resources: dict[str, Any], process: str
) -> None:
    only = container(resources, process)
    assert only["Name"] == "prefect"
    assert only["Image"] == {"Ref": "GpuImage" if process == "RegionGpu" else "Image"}
    assert only["ReadonlyRootFilesystem"] is True
    assert only["User"] == "10001:10001"
    assert only["LinuxParameters"] == {
        "InitProcessEnabled": True,
        "Capabilities": {"Drop": ["ALL"]},
    }
    mounts = {mount["ContainerPath"]: mount["SourceVolume"] for mount in only["MountPoints"]}
    assert "/tmp" in mounts
    properties = resources[f"{process}Task"]["Properties"]
    assert set(mounts.values()) == {volume["Name"] for volume in properties["Volumes"]}
    assert not any("Host" in volume for volume in properties["Volumes"])
    assert only["LogConfiguration"]["LogDriver"] == "awslogs"
    prefix = only["LogConfiguration"]["Options"]["awslogs-stream-prefix"]
    assert prefix == process.removesuffix("Gpu").lower()


def test_the_health_check_of_the_server_includes_its_database(resources: dict[str, Any]) -> None:
    command = container(resources, "Server")["HealthCheck"]["Command"]
    assert command[:3] == ["CMD", "python", "-c"]
    assert "/api/ready" in command[3]
    compile(command[3], "health", "exec")


def test_sizes_are_pairs_that_fargate_supports(template: dict[str, Any]) -> None:
    pairs = [
        value
        for name, parameter in template["Parameters"].items()
        if name.endswith("Size")
        for value in [*parameter["AllowedValues"], parameter["Default"]]
    ]
    assert len(pairs) > 5
    for pair in pairs:
        cpu, memory = map(int, pair.split("/"))
        assert memory in FARGATE[cpu], pair


def test_runs_are_as_large_as_their_deployments_say(resources: dict[str, Any]) -> None:
    declared = yaml.safe_load((TEMPLATE.parents[2] / "prefect.yaml").read_text())["deployments"]
    ecs = [
        entry["work_pool"]["job_variables"] for entry in declared if entry["name"].endswith("-ecs")
    ]
    assert len(ecs) == 3
    for given in ecs:
        task = resources[f"{given['task'].title()}Task"]["Properties"]
        assert (int(task["Cpu"]), int(task["Memory"])) == (given["cpu"], given["memory"])
        assert given["memory"] in FARGATE[given["cpu"]]


def test_a_region_with_a_gpu_differs_from_others_by_its_machine_only(
    resources: dict[str, Any],
) -> None:
    declared = yaml.safe_load((TEMPLATE.parents[2] / "prefect.yaml").read_text())["deployments"]
    (deployment,) = [entry for entry in declared if entry["name"] == "region-ecs-gpu"]
    given = deployment["work_pool"]["job_variables"]
    task = resources["RegionGpuTask"]["Properties"]
    assert (int(task["Cpu"]), int(task["Memory"])) == (given["cpu"], given["memory"])
    assert (given["launch_type"], given["public_ip"]) == ("", "DISABLED")
    (gpu,) = container(resources, "RegionGpu").pop("ResourceRequirements")
    assert gpu == {"Type": "GPU", "Value": "1"}
    for same in ("ExecutionRoleArn", "TaskRoleArn", "NetworkMode", "Volumes"):
        assert task[same] == resources["RegionTask"]["Properties"][same], same
    assert environment(resources, "RegionGpu") == environment(resources, "Region")
    (default,) = resources["ClusterCapacity"]["Properties"]["DefaultCapacityProviderStrategy"]
    assert default["Fn::If"][1] == {"CapacityProvider": {"Ref": "GpuCapacity"}, "Weight": 1}
    for service in of_type(resources, "AWS::ECS::Service").values():
        assert service["LaunchType"] == "FARGATE"


def test_tasks_cannot_reach_the_metadata_of_a_machine_with_a_gpu(
    resources: dict[str, Any],
) -> None:
    machine = resources["GpuInstance"]["Properties"]["LaunchTemplateData"]
    assert machine["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert "ECS_AWSVPC_BLOCK_IMDS=true" in machine["UserData"]["Fn::Base64"]["Fn::Sub"]
    assert all(disk["Ebs"]["Encrypted"] for disk in machine["BlockDeviceMappings"])


@pytest.mark.parametrize("process", PROCESSES)
def test_every_variable_is_a_setting_of_swath_prefect_or_aws(
    resources: dict[str, Any], process: str
) -> None:
    ours = {f"SWATH_{name.upper()}" for name in Settings.model_fields}
    prefects = set(_get_valid_setting_names(PrefectSettings)) | {
        f"{part.model_config['env_prefix']}{name}".upper()
        for part in (EcsObserverSqsSettings, EcsWorkerSettings)
        for name in part.model_fields
    }
    others = {"AWS_DEFAULT_REGION", "DO_NOT_TRACK", "PGSSLMODE"}
    others |= {  # of Prefect's logging.yml, each key of which a variable sets
        "PREFECT_LOGGING_FORMATTERS_JSON_CLASS",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER",
    }
    secrets = {secret["Name"] for secret in unconditional(container(resources, process)["Secrets"])}
    assert secrets | environment(resources, process).keys() <= ours | prefects | others
    assert not any("PASSWORD" in name or "KEY" in name for name in environment(resources, process))


@pytest.mark.parametrize("process", ["Image", "Region"])
def test_without_a_list_any_host_may_be_called_and_no_role_be_named(
    resources: dict[str, Any], process: str
) -> None:
    variables = container(resources, process)["Environment"]
    (hosts,) = [each["Fn::If"] for each in variables if "ENDPOINT_HOSTS" in str(each)]
    assert (hosts[0], hosts[2]) == ("HasEndpointHosts", {"Ref": "AWS::NoValue"})
    (roles,) = [each["Value"]["Fn::If"] for each in variables if "ENDPOINT_ROLES" in str(each)]
    assert (roles[0], roles[2]) == ("HasRoles", "[]")


def test_the_worker_has_every_setting_that_it_reads(resources: dict[str, Any]) -> None:
    variables = environment(resources, "Worker")
    read = {f"SWATH_{name.upper()}" for name in Settings.model_fields if name.startswith("ecs_")}
    assert read <= variables.keys()
    assert variables["PREFECT_WORKER_ENABLE_CANCELLATION"] == "true"


def test_only_clients_can_connect_to_the_server_and_its_database(
    resources: dict[str, Any],
) -> None:
    groups = of_type(resources, "AWS::EC2::SecurityGroup")
    ways_in = {
        (name, rule["FromPort"], rule["ToPort"], rule["SourceSecurityGroupId"]["Fn::GetAtt"][0])
        for name, properties in groups.items()
        for rule in properties.get("SecurityGroupIngress", [])
    }
    assert ways_in == {
        ("ServerSecurityGroup", 4200, 4200, "ServerClients"),
        ("StateSecurityGroup", 5432, 5432, "StateClients"),
        ("StateSecurityGroup", 2049, 2049, "StateClients"),
    }
    open_ways_out = {
        (rule["FromPort"], rule["ToPort"])
        for properties in groups.values()
        for rule in unconditional(properties["SecurityGroupEgress"])
        if rule.get("CidrIp") == "0.0.0.0/0"
    }
    assert open_ways_out == {(443, 443)}
    assert all(properties["SecurityGroupEgress"] for properties in groups.values())


def test_every_alarm_is_sent_to_the_alarm_topic(resources: dict[str, Any]) -> None:
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")
    assert set(alarms) == {
        "RequestsWait",
        "RequestsRefused",
        "JobsIncomplete",
        "JobsOld",
        "ModelGivenUp",
        "EventsUnread",
        "WorkerDown",
        "ServerDown",
    }
    for name, properties in alarms.items():
        assert properties["AlarmActions"] == [{"Ref": "AlarmTopic"}], name
        assert properties["TreatMissingData"] == (
            "breaching" if name.endswith("Down") else "notBreaching"
        )


def test_the_server_is_stopped_before_a_new_one_starts(resources: dict[str, Any]) -> None:
    service = resources["ServerService"]["Properties"]
    assert service["DesiredCount"] == 1
    assert service["DeploymentConfiguration"]["MaximumPercent"] == 100
    leases = environment(resources, "Server")["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"]
    assert leases.endswith(".filesystem")
    home = environment(resources, "Server")["PREFECT_HOME"]
    mounts = {
        m["ContainerPath"]: m["SourceVolume"] for m in container(resources, "Server")["MountPoints"]
    }
    volumes = {v["Name"]: v for v in resources["ServerTask"]["Properties"]["Volumes"]}
    efs = volumes[mounts[home]]["EFSVolumeConfiguration"]  # its leases outlive it
    assert (efs["FilesystemId"], efs["TransitEncryption"]) == ({"Ref": "Files"}, "ENABLED")
