"""A stand-in of a Kubernetes API server: it checks each job, and runs it as a process.

Prefect's worker creates and deletes jobs by HTTP. The stand-in refuses a job that is not valid as
the API server does, gives it a name, and starts its command with the variables of the container
and of the ConfigMap. It has no pods to watch, so Prefect's observer has to be disabled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import kubernetes_validate

from deployments.local import process
from deployments.local.process import inherited_environment
from tests.kubernetes_manifests import check

GUARD = Path(process.__file__).with_name("guard.py")
GRACE = 10.0  # seconds from SIGTERM to SIGKILL
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
contexts: [{{name: here, context: {{cluster: here, user: here}}}}]
users: [{{name: here, user: {{}}}}]
"""


@dataclass
class Job:
    """A job that runs as a process.

    Attributes:
        manifest: The job as it was created, with its name.
        guard: The parent of the process.
        deleted: Whether it was deleted.
    """

    manifest: dict[str, Any]
    guard: subprocess.Popen[bytes] = field(repr=False)
    deleted: bool = False

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return str(self.manifest["metadata"]["name"])

    @property
    def account(self) -> str:
        """The service account of its pod."""
        return str(self.manifest["spec"]["template"]["spec"]["serviceAccountName"])

    def end(self) -> None:
        """Send SIGTERM to the process, later SIGKILL."""
        assert self.guard.stdin is not None
        self.guard.stdin.close()


class KubernetesApi:
    """Answers on loopback, and runs jobs, while a `with` block lasts.

    Args:
        namespace: The only namespace.
        folder: Folder for the kubeconfig, and for logs and homes of jobs.
        variables: The ConfigMap's entries and other variables of every pod.

    Attributes:
        jobs: All jobs so far, in order.
        refused: What was not valid about jobs that were refused.
        kubeconfig: The file that tells clients of this server.
    """

    def __init__(self, namespace: str, folder: Path, variables: dict[str, str]) -> None:
        self.jobs: list[Job] = []
        self.refused: list[str] = []
        self._path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._folder, self._variables = folder, variables
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(KUBECONFIG.format(port=self._server.server_port))

    def __enter__(self) -> Self:
        """Start to answer."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process."""
        self._server.shutdown()
        self._server.server_close()
        for job in self.jobs:
            job.end()
        for job in self.jobs:
            job.guard.wait(GRACE + 5)

    def of(self, account: str) -> list[Job]:
        """The jobs of a service account, in the order of their start."""
        return [job for job in self.jobs if job.account == account]

    def _create(self, manifest: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            check(manifest)
        except kubernetes_validate.ValidationError as error:
            self.refused.append(error.message)
            return 422, _status(422, "Invalid", error.message)
        own = manifest["metadata"]
        own |= {"name": f"{own['generateName']}{uuid4().hex[:5]}", "uid": str(uuid4())}
        self.jobs.append(Job(manifest, self._start(manifest)))
        return 201, manifest

    def _start(self, manifest: dict[str, Any]) -> subprocess.Popen[bytes]:
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        home = self._folder / manifest["metadata"]["name"]
        home.mkdir()
        with (home / "log").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-I", str(GUARD), str(GRACE), *container["args"]],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=inherited_environment()
                | self._variables
                | {each["name"]: each["value"] for each in container["env"]}
                | {"PREFECT_HOME": str(home), "TMPDIR": str(home)}
                | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
                start_new_session=True,
            )

    def _delete(self, name: str) -> tuple[int, dict[str, Any]]:
        for job in self.jobs:
            if job.name == name and not job.deleted:
                job.deleted = True
                job.end()
                return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        return 404, _status(404, "NotFound", f'jobs.batch "{name}" not found')

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self._body())
                path = self.path.partition("?")[0]
                self._answer(*(api._create(body) if path == api._path else _absent(path)))

            def do_DELETE(self) -> None:
                self._body()
                folder, _, name = self.path.partition("?")[0].rpartition("/")
                self._answer(*(api._delete(name) if folder == api._path else _absent(folder)))

            def do_GET(self) -> None:
                self._answer(*_absent(self.path))

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _answer(self, code: int, document: dict[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Log nothing."""

        return Handler


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    kinds = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return kinds | {"code": code, "reason": reason, "message": message}


def _absent(path: str) -> tuple[int, dict[str, Any]]:
    return 404, _status(404, "NotFound", f"{path}: the stand-in has no such resource")
