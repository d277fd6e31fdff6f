"""An emulated AWS that the clients of this process use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployments.local.aws import start_aws, wait_for_aws
from deployments.local.processes import Processes
from tasks.aws import clients


@contextmanager
def emulated_aws(folder: Path) -> Iterator[str]:
    """The endpoint URL of a running emulator, which logs into a folder."""
    with Processes() as processes, pytest.MonkeyPatch.context() as patch:
        cloud = start_aws(processes, folder)
        wait_for_aws(cloud, timeout=60)
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        clients.renew_credentials()
        yield cloud.endpoint_url
    clients.renew_credentials()
