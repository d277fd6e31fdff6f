"""Stacks of `deployments/aws/template.yaml` on the emulated AWS, made by CloudFormation itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tasks.aws.clients import client

TEMPLATE = Path(__file__).parents[1] / "deployments" / "aws" / "template.yaml"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/swath:1"
PATIENCE = 60.0  # seconds that CloudFormation may take here


@dataclass(frozen=True)
class Network:
    """A VPC with a subnet in each of two availability zones."""

    vpc: str
    subnets: tuple[str, str]


@dataclass(frozen=True)
class Stack:
    """A stack that was made.

    Attributes:
        name: Of the stack.
        outputs: By name.
        resources: Physical names by logical ones.
        parameters: As they were given.
    """

    name: str
    outputs: dict[str, str]
    resources: dict[str, str]
    parameters: dict[str, str]

    def update(self, **parameters: str) -> Stack:
        """The stack with other parameters, and all else as it was."""
        given = self.parameters | parameters
        client("cloudformation").update_stack(
            StackName=self.name,
            UsePreviousTemplate=True,
            Capabilities=["CAPABILITY_IAM"],
            Parameters=_listed(given),
        )
        return _made(self.name, given)

    def delete(self) -> None:
        """Delete it, and wait for that."""
        arn = client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]["StackId"]
        client("cloudformation").delete_stack(StackName=arn)
        assert _ended(arn)["StackStatus"] == "DELETE_COMPLETE"


def make_network() -> Network:
    """A VPC of one's own, for each emulated region has one default VPC only."""
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
    """A stack that came up, from the template in S3, as it is too long for the call itself.

    Args:
        aws: The emulator's endpoint URL.
        network: Where its tasks run.
        **parameters: Over the template's defaults.
    """
    given = {
        "Image": IMAGE,
        "VpcId": network.vpc,
        "SubnetIds": ",".join(network.subnets),
    } | parameters
    name, key = f"Test-{uuid4().hex[:8]}", uuid4().hex
    client("s3").create_bucket(Bucket="templates")
    client("s3").put_object(Bucket="templates", Key=key, Body=TEMPLATE.read_bytes())
    client("cloudformation").create_stack(
        StackName=name,
        TemplateURL=f"{aws}/templates/{key}",
        Capabilities=["CAPABILITY_IAM"],
        Parameters=_listed(given),
    )
    return _made(name, given)


def _made(name: str, given: dict[str, str]) -> Stack:
    told = _ended(name)
    events = client("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
    failed = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED")
    ]
    assert told["StackStatus"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}, failed
    listed = client("cloudformation").get_paginator("list_stack_resources")
    return Stack(
        name,
        {output["OutputKey"]: output["OutputValue"] for output in told["Outputs"]},
        {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for page in listed.paginate(StackName=name)
            for resource in page["StackResourceSummaries"]
        },
        given,
    )


def _ended(name: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while True:
        told: dict[str, Any] = client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        if not told["StackStatus"].endswith("_IN_PROGRESS"):
            return told
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def _listed(parameters: dict[str, str]) -> list[dict[str, str]]:
    return [
        {"ParameterKey": key, "ParameterValue": value} for key, value in sorted(parameters.items())
    ]
