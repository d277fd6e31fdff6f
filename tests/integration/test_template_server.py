"""The Prefect server of the template's stack: the template's variables on a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from cfnlint.decode import decode
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deployments.local.loopback import free_port
from deployments.local.process import Process, inherited_environment
from deployments.local.processes import Processes
from tests.stacks import TEMPLATE

_PREFECT = [sys.executable, "-m", "prefect"]
_USER = ["-U", "prefect", "-A", "scram-sha-256", "--pwfile"]
PASSWORD = "uZ8p" * 10  # as the secret has it: 40 characters, no punctuation


@dataclass(frozen=True)
class Database:
    """A PostgreSQL that, as RDS does, takes TLS alone and has one user, who owns one database."""

    port: int
    folder: Path
    tools: Path

    def ask(self, query: str) -> str:
        """One value, asked as the server's own user."""
        url = f"postgresql://prefect@127.0.0.1:{self.port}/prefect?sslmode=require"
        asked = subprocess.run(
            [self.tools / "psql", url, "-Atc", query],
            env={"PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=True,
        )
        return asked.stdout.strip()


@pytest.fixture(scope="module")
def tools() -> Path:
    """Folder of PostgreSQL's programs."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        pytest.skip("no PostgreSQL here: install the package `postgresql`")
    return Path(found).parent


@pytest.fixture(scope="module")
def database(tools: Path) -> Iterator[Database]:
    with tempfile.TemporaryDirectory(prefix="swath-pg-") as name, Processes() as processes:
        folder, as_user = Path(name), as_postgres(Path(name))
        data, port = folder / "data", free_port()
        (folder / "password").write_text(PASSWORD)
        processes.run(
            "initdb",
            [*as_user, str(tools / "initdb"), "-D", str(data), *_USER, f"{folder / 'password'}"],
            env=inherited_environment(),
            log=folder / "initdb.log",
        )
        write_certificate(data)
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        settings = {"ssl": "on", "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = [f"-c{key}={value}" for key, value in settings.items()]
        server = processes.start(
            "PostgreSQL",
            [*as_user, str(tools / "postgres"), "-D", str(data), "-p", str(port), *options],
            env=inherited_environment(),
            log=folder / "postgres.log",
        )
        ready = [str(tools / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        server.wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, timeout=60)
        subprocess.run(
            [tools / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect"],
            env={"PGPASSWORD": PASSWORD},
            check=True,
        )
        yield Database(port, folder, tools)


def as_postgres(folder: Path) -> list[str]:
    """What runs a program as somebody whom PostgreSQL accepts: not root."""
    if os.getuid():
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def write_certificate(data: Path) -> None:
    """Write a self-signed certificate, as unknown as that of RDS without Amazon's root ones."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "database")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path, content in (("server.key", private), ("server.crt", certificate.public_bytes(pem))):
        (data / path).write_bytes(content)
        (data / path).chmod(0o600)
        shutil.chown(data / path, data.owner(), data.group())


def variables(database: Database, home: Path) -> dict[str, str]:
    """The container's environment, with values of a stack and local folders filled in."""
    decoded, _ = decode(str(TEMPLATE))
    (container,) = decoded["Resources"]["ServerTask"]["Properties"]["ContainerDefinitions"]
    declared = {variable["Name"]: variable["Value"] for variable in container["Environment"]}
    known = {
        "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
        "PREFECT_SERVER_DATABASE_PORT": str(database.port),
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "P30D",
    }
    assert {name for name, value in declared.items() if not isinstance(value, str)} == known.keys()
    (secret,) = container["Secrets"]
    ours = {
        "PREFECT_HOME": str(home / "home"),
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "HOME": str(home),
    }
    return declared | known | {secret["Name"]: PASSWORD} | ours


def start(processes: Processes, port: int, database: Database, folder: Path) -> Process:
    """A server that is ready by the measure of the container's health check."""
    server = processes.start(
        "the Prefect server",
        [*_PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env=inherited_environment() | variables(database, folder),
        log=folder / "server.log",
        cwd=folder,
    )
    server.wait_until(partial(server.answers, port, "/api/ready"), timeout=180)
    return server


def test_a_new_server_has_the_data_and_leases_of_the_previous_one(
    database: Database, tmp_path: Path
) -> None:
    port = free_port()
    with (
        Processes() as processes,
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api", trust_env=False, timeout=30) as api,
    ):
        first = start(processes, port, database, tmp_path)
        assert int(database.ask("select count(*) from alembic_version")) == 1
        limits = "/v2/concurrency_limits/"
        api.post(limits, json={"name": "sensor", "limit": 1}).raise_for_status()
        wanted = {"names": ["sensor"], "slots": 1, "mode": "concurrency", "lease_duration": 60}
        held = api.post(f"{limits}increment-with-lease", json=wanted).raise_for_status().json()
        first.stop()

        start(processes, port, database, tmp_path)
        assert api.get(f"{limits}sensor").raise_for_status().json()["active_slots"] == 1
        lease = {"lease_id": str(UUID(held["lease_id"]))}
        renewed = api.post(f"{limits}leases/{held['lease_id']}/renew", json={"lease_duration": 60})
        assert renewed.is_success
        api.post(f"{limits}decrement-with-lease", json=lease).raise_for_status()
        assert api.get(f"{limits}sensor").raise_for_status().json()["active_slots"] == 0

        settings = api.get(f"http://127.0.0.1:{port}/ui-settings").raise_for_status().json()
        assert settings["api_url"] == "/api"
        page = api.get(f"http://127.0.0.1:{port}/", headers={"Accept": "text/html"})
        assert page.is_success or page.is_redirect
