"""The embedded AWS: an emulator of SQS, SNS and S3 on loopback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.local.loopback import HOST, free_port
from deployments.local.process import Process, inherited_environment
from deployments.local.processes import Processes
from tasks.errors import StackError

if TYPE_CHECKING:
    import boto3

_REGION = "us-east-1"
_KEY = "swath"  # the emulator accepts any key; this one is not valid on AWS


@dataclass(frozen=True)
class EmbeddedAws:
    """A running emulator of AWS.

    Attributes:
        port: Port on loopback.
        process: The supervised emulator.
    """

    port: int
    process: Process

    @property
    def endpoint_url(self) -> str:
        """URL of every service."""
        return f"http://{HOST}:{self.port}"

    @cached_property
    def environment(self) -> dict[str, str]:
        """Variables with which boto3, the AWS command line and GDAL's /vsis3 use only the emulator.

        They replace all other `AWS_…` variables (see `inherited_environment`).
        """
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _KEY,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,  # a profile may set other endpoints
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_S3_ENDPOINT": f"{HOST}:{self.port}",
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }

    @cached_property
    def _session(self) -> boto3.Session:
        """A session that reads neither the user's variables nor configuration files."""
        import boto3  # slow to import: done here, while the servers start
        import botocore.session

        no_files: dict[str, Any] = {
            "profile": (None, [], None, None),
            "config_file": (None, [], os.devnull, None),
            "credentials_file": (None, [], os.devnull, None),
        }
        return boto3.Session(
            aws_access_key_id=_KEY,
            aws_secret_access_key=_KEY,
            region_name=_REGION,
            botocore_session=botocore.session.Session(session_vars=no_files),
        )

    @contextmanager
    def client(self, service: str) -> Iterator[Any]:
        """A client of one of the emulated services, closed at the end.

        Args:
            service: Name of the service in boto3, such as `sqs`.
        """
        client = self._session.client(service, endpoint_url=self.endpoint_url)  # type: ignore[call-overload]
        try:
            yield client
        finally:
            client.close()


def start_aws(
    processes: Processes, folder: Path, *, port: int | None = None, keep: bool = False
) -> EmbeddedAws:
    """Start the emulator without waiting; `wait_for_aws` waits until it answers.

    Args:
        processes: The supervisor of the process.
        folder: Folder for the log, temporary files and, if they are kept, queues and buckets.
        port: Port to listen on; None for any.
        keep: Whether queues, topics and buckets are kept in the folder `aws`, where the next
            emulator finds them. Otherwise they are in memory.

    Raises:
        StackError: ministack is not installed.
    """
    if find_spec("ministack") is None:
        raise StackError(
            "The embedded AWS (ministack) is not installed: run `pip install 'swath[local]'`."
        )
    port = port or free_port(4566)
    state, temporary = folder / "aws", folder / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    settings = {
        "BIND_HOST": HOST,
        "MINISTACK_HOST": HOST,  # the host in queue URLs
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",  # this and SFTP would listen on every interface
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": str(int(keep)),
        "STATE_DIR": str(state),
        "S3_PERSIST": str(int(keep)),
        "S3_DATA_DIR": str(state / "objects"),
        "LOG_LEVEL": "WARNING",
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _KEY,
        "TMPDIR": str(temporary),
    }
    process = processes.start(
        "the embedded AWS",
        [sys.executable, "-m", "deployments.local.aws_program" if keep else "ministack"],
        env=inherited_environment() | settings,
        log=folder / "logs" / "aws.log",
        cwd=temporary,
    )
    return EmbeddedAws(port, process)


def wait_for_aws(aws: EmbeddedAws, timeout: float = 30.0) -> None:
    """Wait until the emulator answers.

    Args:
        aws: The emulator.
        timeout: Seconds to wait.

    Raises:
        StackError: It ended, or did not answer in time.
    """
    aws.process.wait_until(lambda: aws.process.answers(aws.port, "/_ministack/health"), timeout)
