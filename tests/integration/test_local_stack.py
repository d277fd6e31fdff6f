"""The local stack: AWS emulator, Prefect server, worker and a deployment, all on loopback."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deployments.local.aws import start_aws, wait_for_aws
from deployments.local.prefect_server import server_environment, temporary_server
from deployments.local.process import inherited_environment
from deployments.local.processes import Processes
from deployments.local.record import StackRecord, running_stack, write_record
from deployments.local.resources import create_resources
from deployments.local.stack import Stack
from deployments.prefect_access import reachable
from deployments.run.server import Server, find_server
from tasks.errors import StackError

FLOW = """
import os
import httpx
import psutil
from prefect import flow, get_client
from prefect.client.schemas.actions import ArtifactCreate

@flow
def seen(queue_url: str) -> None:
    assert psutil.Process().name().startswith("swath-")  # the fork server's
    assert os.environ["SWATH_QUEUE_URL"] == queue_url
    assert os.environ["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    send, paths = httpx.Client.send, []
    httpx.Client.send = lambda client, asked, **options: (
        paths.append(asked.url.path) or send(client, asked, **options)
    )
    with get_client(sync_client=True) as client:
        client.create_artifact(ArtifactCreate(key="any", data="1"))
    assert paths == ["/api/artifacts/"]  # and no token, which the server has none of
"""
WITNESS = """
trap 'test -e "$1/state/stack.json" || echo no record > "$1/seen"; exit' TERM
echo ready
while :; do sleep 0.1; done
"""
DEPLOYMENTS = """
name: test
pull:
  - prefect.deployments.steps.set_working_directory:
      directory: {folder}
deployments:
  - name: local
    entrypoint: flow.py:seen
    work_pool: {{name: swath}}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "flow.py").write_text(FLOW)
    (folder / "prefect.yaml").write_text(DEPLOYMENTS.format(folder=folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_STATE_DIR", str(folder / "state"))
        patch.setenv("AWS_PROFILE", "production")  # as a user may have it
        patch.setenv("AWS_ENDPOINT_URL_SQS", "http://elsewhere.invalid")
        patch.setenv("PREFECT_API_URL", "http://elsewhere.invalid/api")
        started: list[str] = []
        with Stack(
            folder, progress=started.append, local_roots=[folder], project=folder
        ) as running:
            assert len(started) == 4
            witness = running.processes.start(
                "a witness",
                ["sh", "-c", WITNESS, "sh", str(folder)],
                env=inherited_environment(),
                log=folder / "witness.log",
            )
            witness.wait_until(lambda: "ready" in witness.log.read_text(), 60)
            yield running
    assert not reachable(running.record.api_url)
    # a command that begins while it ends does not take it for a stack that runs
    assert (folder / "seen").read_text() == "no record\n"


@pytest.fixture
def aws(stack: Stack) -> Iterator[Any]:
    """boto3 as a user of the stack has it: from the environment alone."""
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(inherited_environment()):
            patch.delenv(name)
        for name, value in stack.record.environment.items():
            patch.setenv(name, value)
        import boto3

        clients: list[Any] = []

        def client(service: str) -> Any:
            clients.append(boto3.Session().client(service))  # type: ignore[call-overload]
            return clients[-1]

        yield client
        for opened in clients:
            opened.close()


def test_everything_listens_on_loopback_only(stack: Stack) -> None:
    listening = {
        connection.laddr.ip
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_a_deployment_runs_in_a_fork_with_the_environment_of_the_stack(stack: Stack) -> None:
    with httpx.Client(base_url=stack.record.api_url, trust_env=False, timeout=10) as api:
        deployment = api.get("/deployments/name/seen/local").json()
        parameters = {"queue_url": stack.record.queue_url}
        path = f"/deployments/{deployment['id']}/create_flow_run"
        deadline = time.monotonic() + 60
        while (made := api.post(path, json={"parameters": parameters})).status_code == 503:
            assert (
                time.monotonic() < deadline
            )  # the server may be busy; Prefect's clients retry too
            time.sleep(0.2)
        run = made.json()
        while (state := api.get(f"/flow_runs/{run['id']}").json()["state"])["type"] in {
            "SCHEDULED",
            "PENDING",
            "RUNNING",
        }:
            assert time.monotonic() < deadline, state
            time.sleep(0.2)
    assert state["type"] == "COMPLETED", state
    assert "database is locked" not in (stack.folder / "logs" / "prefect.log").read_text()


def test_the_ui_is_served_and_knows_its_api(stack: Stack) -> None:
    with httpx.Client(base_url=stack.record.ui_url, trust_env=False) as ui:
        assert "<html" in ui.get("/", follow_redirects=True).text
        assert ui.get("/ui-settings").json()["api_url"] == stack.record.api_url


def test_a_message_received_three_times_goes_to_the_dead_letter_queue(
    stack: Stack, aws: Any
) -> None:
    sqs = aws("sqs")
    url = stack.record.queue_url
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "60"
    sqs.send_message(QueueUrl=url, MessageBody="poison")
    for _ in range(3):
        (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=2)["Messages"]
        sqs.change_message_visibility(
            QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )
    assert not sqs.receive_message(QueueUrl=url).get("Messages")
    (dead,) = sqs.receive_message(QueueUrl=stack.record.dead_letter_url, WaitTimeSeconds=2)[
        "Messages"
    ]
    assert dead["Body"] == "poison"


def test_a_status_arrives_on_the_status_queue(stack: Stack, aws: Any) -> None:
    aws("sns").publish(
        TopicArn=stack.record.environment["SWATH_STATUS_TOPIC_ARN"],
        Message='{"status": "STARTED"}',
        MessageAttributes={"job_id": {"DataType": "String", "StringValue": "job-42"}},
    )
    (message,) = aws("sqs").receive_message(
        QueueUrl=stack.record.status_queue_url,
        MessageAttributeNames=["All"],
        WaitTimeSeconds=5,
    )["Messages"]
    assert message["Body"] == '{"status": "STARTED"}'
    assert message["MessageAttributes"]["job_id"]["StringValue"] == "job-42"


def test_the_buckets_store_files(stack: Stack, aws: Any, tmp_path: Path) -> None:
    s3 = aws("s3")
    source = tmp_path / "image.tif"
    source.write_bytes(os.urandom(20_000_000))
    for bucket in (stack.record.image_bucket, stack.record.result_bucket, "swath-work"):
        s3.upload_file(str(source), bucket, "a/image.tif")
        s3.download_file(bucket, "a/image.tif", str(tmp_path / "copy.tif"))
        assert (tmp_path / "copy.tif").read_bytes() == source.read_bytes()


def test_a_second_stack_is_refused_with_the_first_ones_address(
    stack: Stack, tmp_path: Path
) -> None:
    assert running_stack() == stack.record
    with pytest.raises(StackError, match=f"process {os.getpid()}, UI {stack.record.ui_url}"):
        Stack(tmp_path, progress=print).__enter__()
    assert running_stack() == stack.record  # unchanged by the refused stack


def test_the_server_of_the_running_stack_is_found(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profiles = tmp_path / "profiles.toml"
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(profiles))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert find_server(None) is None  # it is not joined unasked
    assert find_server(True) == Server(stack.record.api_url, "the running `swath up`")
    other = stack.record.api_url + "/"
    profiles.write_text(f'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "{other}"\n')
    assert find_server(None) is None
    assert find_server(True) == Server(other, "the profile 'mine'")
    profiles.unlink()
    monkeypatch.setenv("SWATH_STATE_DIR", str(tmp_path))
    with pytest.raises(StackError, match="--prefect: no Prefect server is named"):
        find_server(True)


def test_a_stack_whose_process_ended_is_not_running(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SWATH_STATE_DIR", str(tmp_path))
    assert running_stack() is None
    write_record(StackRecord(**{**stack.record.model_dump(), "started": stack.record.started - 60}))
    assert running_stack() is None


def test_creating_the_aws_resources_twice_is_no_error(tmp_path: Path) -> None:
    with Processes() as processes:
        aws = start_aws(processes, tmp_path)
        wait_for_aws(aws)
        assert create_resources(aws.client) == create_resources(aws.client)
        with aws.client("sns") as sns:
            assert len(sns.list_subscriptions()["Subscriptions"]) == 1


def test_every_prefect_setting_exists(tmp_path: Path) -> None:
    from prefect.settings.legacy import _get_valid_setting_names
    from prefect.settings.models.root import Settings

    names = {name for name in server_environment(tmp_path, 1) if name.startswith("PREFECT_")}
    assert names <= _get_valid_setting_names(Settings)


def test_a_temporary_server_reuses_the_database_and_is_gone_afterwards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with temporary_server() as server:
        server.wait()
        (template,) = (tmp_path / "swath").iterdir()
        assert httpx.post(f"{server.api_url}/flow_runs/filter", json={}, trust_env=False).is_success
        home = server.home
    with closing(sqlite3.connect(template)) as database:
        assert database.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)
    with temporary_server() as server:
        assert server.environment["PREFECT_API_URL"] == server.api_url
        server.wait()
        assert reachable(server.api_url)
    assert not reachable(server.api_url)
    assert not home.exists()
