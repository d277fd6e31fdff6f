"""Stacks of `deployments/aws/template.yaml` in the emulated CloudFormation."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tasks.aws.clients import client

TEMPLATE = Path(__file__).parents[1] / "deployments" / "aws" / "template.yaml"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/swath:1"
GPU_IMAGE = IMAGE.replace(":1", ":1-gpu")
_TIMEOUT = 60.0  # seconds for an operation on a stack
_UNKNOWN = ("ClusterCapacity", "GpuCapacity", "JobsIncomplete")
"""Resources that the emulator does not know: capacity providers, and an alarm on an expression."""


@dataclass(frozen=True)
class Network:
    """A VPC with a subnet in each of two availability zones."""

    vpc: str
    subnets: tuple[str, str]


@dataclass(frozen=True)
class Stack:
    """A stack that exists.

    Attributes:
        name: The stack's name.
        outputs: Values of outputs by name.
        resources: Physical ids by logical ids.
        parameters: Values of parameters by name.
    """

    name: str
    outputs: dict[str, str]
    resources: dict[str, str]
    parameters: dict[str, str]

    def update(self, **parameters: str) -> Stack:
        """Update the stack with other parameters, the rest unchanged."""
        given = self.parameters | parameters
        client("cloudformation").update_stack(
            StackName=self.name,
            UsePreviousTemplate=True,
            Capabilities=["CAPABILITY_IAM"],
            Parameters=_parameter_list(given),
        )
        return _wait_for_stack(self.name, given)

    def delete(self) -> None:
        """Delete the stack and wait until it is deleted."""
        arn = client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]["StackId"]
        client("cloudformation").delete_stack(StackName=arn)
        assert _wait_for_end(arn)["StackStatus"] == "DELETE_COMPLETE"


def make_network() -> Network:
    """Create a VPC with two subnets; the emulated region has only one default VPC."""
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    first, second = (
        ec2.create_subnet(
            VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=f"us-east-1{zone}"
        )["Subnet"]["SubnetId"]
        for number, zone in enumerate("ab")
    )
    return Network(vpc, (first, second))


def make_stack(aws: str, network: Network, **parameters: str) -> Stack:
    """Create a stack; the template is uploaded to S3, as it is too large for the call.

    Args:
        aws: The emulator's endpoint URL.
        network: The network of the stack's tasks.
        **parameters: Parameters that override the template's defaults.
    """
    given = {
        "Image": IMAGE,
        "VpcId": network.vpc,
        "SubnetIds": ",".join(network.subnets),
    } | parameters
    name, key = f"Test-{uuid4().hex[:8]}", uuid4().hex
    client("s3").create_bucket(Bucket="templates")
    client("s3").put_object(Bucket="templates", Key=key, Body=_known_resources().encode())
    client("cloudformation").create_stack(
        StackName=name,
        TemplateURL=f"{aws}/templates/{key}",
        Capabilities=["CAPABILITY_IAM"],
        Parameters=_parameter_list(given),
    )
    stack = _wait_for_stack(name, given)
    _add_capacity(stack)
    return stack


def _known_resources() -> str:
    """The template without `_UNKNOWN`."""
    text = TEMPLATE.read_text(encoding="utf-8")
    for name in _UNKNOWN:
        text, found = re.subn(rf"^  {name}:\n(?:    .*\n|\n)+", "", text, flags=re.MULTILINE)
        assert found == 1, name
        text = text.replace(f'"${{{name}.Arn}}", ', "")  # in the dashboard
    return text


def _add_capacity(stack: Stack) -> None:
    """Give the cluster what `_UNKNOWN` would give it."""
    ecs, providers = client("ecs"), ["FARGATE", "FARGATE_SPOT"]
    machines = [f"{stack.name}-gpu"] if "GpuInstances" in stack.resources else []
    for name in machines:
        ecs.create_capacity_provider(
            name=name,
            autoScalingGroupProvider={"autoScalingGroupArn": stack.resources["GpuInstances"]},
        )
    ecs.put_cluster_capacity_providers(
        cluster=stack.outputs["ClusterName"],
        capacityProviders=[*providers, *machines],
        defaultCapacityProviderStrategy=[{"capacityProvider": name} for name in machines],
    )


def _wait_for_stack(name: str, given: dict[str, str]) -> Stack:
    description = _wait_for_end(name)
    events = client("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
    failed = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED")
    ]
    assert description["StackStatus"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}, failed
    resources = client("cloudformation").get_paginator("list_stack_resources")
    return Stack(
        name,
        {output["OutputKey"]: output["OutputValue"] for output in description["Outputs"]},
        {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for page in resources.paginate(StackName=name)
            for resource in page["StackResourceSummaries"]
        },
        given,
    )


def _wait_for_end(name: str) -> dict[str, Any]:
    deadline = time.monotonic() + _TIMEOUT
    while True:
        description: dict[str, Any] = client("cloudformation").describe_stacks(StackName=name)[
            "Stacks"
        ][0]
        if not description["StackStatus"].endswith("_IN_PROGRESS"):
            return description
        assert time.monotonic() < deadline, description
        time.sleep(0.1)


def _parameter_list(parameters: dict[str, str]) -> list[dict[str, str]]:
    return [
        {"ParameterKey": key, "ParameterValue": value} for key, value in sorted(parameters.items())
    ]
