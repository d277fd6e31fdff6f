"""What the fork server imports before it forks, and for which runs that is all the same."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_PACKAGES = {"deployments", "flows", "tasks"}

_MODULES = (
    "flows.image",
    "flows.region",
    "flows.sensor",
    "tasks.inference.model_defaults",
    "tasks.publish.preview",
    "boto3.s3.transfer",
    "botocore.session",
    "fastapi.encoders",
    "numpy.ma",
    "prefect.deployments.steps.core",
    "prefect.engine",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.utilities.visualization",
    "pyarrow.dataset",
    "anyio._backends._asyncio",
)
"""What the run of an image imports before its end."""

_OPTIONAL = ("pandas",)
"""What it imports where that is installed: pyarrow looks for it."""

_SERVICES = ("s3", "sns", "sqs")
"""The services of AWS that every run calls."""


class Preloaded:
    """What this process has imported, and with which variables and sources.

    Attributes:
        added: The variables that the libraries set when they were imported.
    """

    def __init__(self) -> None:
        before = dict(os.environ)
        for name in _MODULES:
            importlib.import_module(name)
        for name in _OPTIONAL:
            with suppress(ImportError):
                importlib.import_module(name)
        from prefect.settings import get_current_settings

        from tasks.aws.clients import client

        for service in _SERVICES:  # which reads their descriptions; nothing is connected
            client(service)
        self.added = {
            name: value for name, value in os.environ.items() if before.get(name) != value
        }
        self._variables = _variables(before)
        # as a worker writes them for its runs
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        self._of_worker = self._variables | _variables(settings)
        self._sources = _sources()

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with an environment would have imported the same."""
        variables = _variables(environment)
        return variables in (self._variables, self._of_worker) and _sources() == self._sources


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that a library may read when it is imported."""
    return {name: value for name, value in environment.items() if not name.startswith("PREFECT__")}


def _sources() -> dict[str, int]:
    """When the sources of this project that are imported were changed."""
    found = {}
    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] in _PACKAGES and module.__file__ is not None:
            with suppress(OSError):
                found[name] = Path(module.__file__).stat().st_mtime_ns
    return found
