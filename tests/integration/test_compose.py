"""`deployments/compose/compose.yaml`: what it declares, and its services, really run by podman."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
import httpx
import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine

from deployments.local.loopback import free_port
from deployments.local.prefect_server import SERVER_SETTINGS
from tests.containers import BUILD, LIMITS, PODMAN_COMPOSE, debian, swath
from tests.pages import ROOT, blocks, read
from tests.polling import until

FILE = ROOT / "deployments" / "compose" / "compose.yaml"
TEXT = FILE.read_text(encoding="utf-8")
SERVICES: dict[str, Any] = yaml.safe_load(TEXT)["services"]
TIMEOUT = 900.0  # seconds, on a machine that is busy with others

PROJECT = "swath-test"
POSTGRES = "localhost/swath-postgres-test"
# What the published image does with its variables, for Debian's PostgreSQL.
START_POSTGRES = """
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH DATA=/var/lib/postgresql/data
install -d -o postgres $DATA
as() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
cd /
test -s $DATA/PG_VERSION || {
  (umask 077; echo "$POSTGRES_PASSWORD" > /tmp/password; chown postgres /tmp/password)
  as initdb -D $DATA -U "$POSTGRES_USER" -A scram-sha-256 --pwfile=/tmp/password --locale=C.UTF-8
  echo "create database $POSTGRES_DB" | as postgres --single -D $DATA postgres
  echo "host all all all scram-sha-256" >> $DATA/pg_hba.conf
}
exec setpriv --reuid=postgres --regid=postgres --clear-groups \
  env PATH="$PATH" postgres -D $DATA -c listen_addresses='*' -c unix_socket_directories=
"""


def test_ports_are_bound_to_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_password_has_a_default_and_the_page_makes_all_variables() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert {name for name in re.findall(r"\$\{(\w+)", TEXT) if "PASSWORD" in name} <= required
    (settings,) = [block for block in blocks(read("compose"), "sh") if ".env <<END" in block]
    assert set(re.findall(r"^(\w+)=", settings, re.MULTILINE)) == required


def test_the_server_has_the_settings_of_every_server() -> None:
    given = {name: str(value) for name, value in SERVICES["server"]["environment"].items()}
    assert SERVER_SETTINGS.items() <= given.items()


def test_the_emulator_is_the_version_that_swath_is_tested_with() -> None:
    assert SERVICES["aws"]["image"].endswith(f":{version('ministack')}")


@dataclass(frozen=True)
class Machine:
    """A machine with podman, and the services of the file on it.

    Attributes:
        compose: The command line of podman-compose for them.
        data: The folder that they see as `/data`.
        prefect: URL of the Prefect server.
        aws: URL of the emulator.
    """

    compose: tuple[str, ...]
    data: Path
    prefect: str
    aws: str

    def runs(self, *command: str) -> str:
        """Run a command of podman-compose; its output."""
        done = subprocess.run(
            [*self.compose, *command], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def client(self, service: str) -> Any:
        """A client of the emulator, as on the page."""
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.aws,
            region_name="us-east-1",
            aws_access_key_id="swath",
            aws_secret_access_key="swath",
        )

    def queue(self, name: str) -> str:
        """The address of a queue."""
        return f"{self.aws}/000000000000/{name}"


@pytest.fixture(scope="module")
def namespace() -> Iterator[tuple[str, ...]]:
    """What runs a command where crun accepts the machine, as `confined` does, for all commands."""
    script = "mount -t tmpfs none /sys/fs/cgroup && echo mounted && exec sleep infinity"
    holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    mounted = holder.stdout.readline() == b"mounted\n"
    if mounted:
        yield ("nsenter", f"--target={holder.pid}", "--mount", f"--wd={ROOT}")
    holder.kill()
    holder.communicate()
    if not mounted:
        pytest.skip("this machine allows no mount namespace")


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, namespace: tuple[str, ...]
) -> Iterator[Machine]:
    """The services of the file, started."""
    base, image = debian(), swath()
    folder = tmp_path_factory.mktemp("compose")
    data = folder / "data"
    data.mkdir()
    ports = {"PREFECT_PORT": free_port(), "AWS_PORT": free_port()}
    passwords = {"POSTGRES_PASSWORD": "a" * 20, "PREFECT_PASSWORD": "b" * 20}
    variables = {"CONTAINER_IMAGE": image, "DATA_FOLDER": data, "DATA_USER": "0:0"}
    (folder / ".env").write_text(
        "".join(f"{name}={value}\n" for name, value in (ports | passwords | variables).items())
    )
    (folder / "here.json").write_text(json.dumps(_differences(base)))
    here = Machine(
        (
            *namespace,
            PODMAN_COMPOSE,
            f"--project-name={PROJECT}",
            f"--env-file={folder / '.env'}",
            f"--file={FILE}",
            f"--file={folder / 'here.json'}",
            f"--podman-run-args={' '.join(LIMITS)}",
        ),
        data,
        f"http://127.0.0.1:{ports['PREFECT_PORT']}",
        f"http://127.0.0.1:{ports['AWS_PORT']}",
    )
    _build_postgres(base)
    here.runs("down", "--volumes")
    try:
        here.runs("up", "--detach")
        yield here
    finally:
        here.runs("down", "--volumes")


def _build_postgres(base: str) -> None:
    """The image that stands in for the published one of PostgreSQL; built if needed."""
    if subprocess.run(["podman", "image", "exists", POSTGRES], check=False).returncode:
        install = "apt-get install --yes --no-install-recommends postgresql"
        subprocess.run(
            ["podman", "build", *BUILD, f"--tag={POSTGRES}", "--file=-"],
            input=f"FROM {base}\nRUN apt-get update && {install}\n",
            text=True,
            capture_output=True,
            check=True,
        )


def _differences(base: str) -> dict[str, Any]:
    """What differs here from the file: no published images, no DNS, no init of podman."""
    subnet = f"10.89.{os.getpid() % 200 + 20}"
    address = {name: f"{subnet}.{place}" for place, name in enumerate(SERVICES, start=2)}
    hosts = [f"{name}:{ip}" for name, ip in address.items()]
    services: dict[str, dict[str, Any]] = {
        name: {
            "init": False,
            "extra_hosts": hosts,
            "networks": {"default": {"ipv4_address": address[name]}},
        }
        for name in SERVICES
    }
    services["postgres"] |= {
        "image": POSTGRES,
        "command": ["sh", "-ec", START_POSTGRES.replace("$", "$$")],
    }
    packages = sysconfig.get_path("purelib")
    services["aws"] |= {
        "image": base,
        "command": ["python3", "-m", "ministack"],
        "environment": {"PYTHONPATH": "/packages"},
        "volumes": [f"{packages}:/packages:ro"],
    }
    network = {"ipam": {"config": [{"subnet": f"{subnet}.0/24"}]}}
    return {"services": services, "networks": {"default": network}}


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False


def test_a_request_on_the_queue_is_published_and_kept(machine: Machine) -> None:
    until(lambda: answers(f"{machine.aws}/_ministack/health"))
    until(lambda: answers(f"{machine.prefect}/api/ready"))
    profile = {"width": 600, "height": 600, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    transform = Affine(1, 0, 500_000, 0, -1, 5_400_000)
    with rasterio.open(
        machine.data / "scene.tif", "w", driver="GTiff", transform=transform, **profile
    ) as sink:
        sink.write(np.full((3, 600, 600), 50, np.uint8))
    request = {
        "jobId": "first",
        "imageUrls": ["/data/scene.tif"],
        "outputs": [
            {"type": "File", "path": "/data/results"},
            {"type": "S3", "bucket": "swath-results", "prefix": "first"},
        ],
        "imageProcessor": {"name": "centerpoint", "type": "BUILTIN"},
        "imageProcessorTileSize": 256,
        "imageProcessorTileOverlap": 64,
    }
    until(lambda: len(machine.client("sqs").list_queues().get("QueueUrls", [])) == 3)
    machine.client("sqs").send_message(
        QueueUrl=machine.queue("swath"), MessageBody=json.dumps(request)
    )
    published = machine.data / "results" / "scene.tif.geojson"
    until(published.exists)
    assert len(json.loads(published.read_bytes())["features"]) == 9
    assert statuses(machine, 3)[-1] == "SUCCESS"

    machine.runs("stop", "aws")
    machine.runs("start", "aws")
    until(lambda: answers(f"{machine.aws}/_ministack/health"))
    stored = machine.client("s3").get_object(Bucket="swath-results", Key="first/scene.tif.geojson")
    assert stored["Body"].read() == published.read_bytes()
    assert statuses(machine, 3)[-1] == "SUCCESS"
    server = httpx.post(f"{machine.prefect}/api/flow_runs/count", json={}, trust_env=False)
    assert server.status_code == httpx.codes.UNAUTHORIZED


def statuses(machine: Machine, count: int) -> list[str]:
    """The statuses on the queue of statuses, in their order; they stay on it."""
    found: dict[str, dict[str, Any]] = {}

    def look() -> bool:
        answer = machine.client("sqs").receive_message(
            QueueUrl=machine.queue("swath-status"),
            VisibilityTimeout=0,
            MaxNumberOfMessages=10,
            AttributeNames=["SentTimestamp"],
            MessageAttributeNames=["status"],
        )
        found.update({each["MessageId"]: each for each in answer.get("Messages", [])})
        return len(found) >= count

    until(look)
    ordered = sorted(found.values(), key=lambda each: int(each["Attributes"]["SentTimestamp"]))
    return [each["MessageAttributes"]["status"]["StringValue"] for each in ordered]
