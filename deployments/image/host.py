"""How this machine reaches packages, handed to a build for as long as it lasts.

Index, proxy and certificate authority are the host's; as build secrets they are in no layer.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

_INDEX = {
    "default-timeout",
    "extra-index-url",
    "find-links",
    "index-url",
    "no-index",
    "proxy",
    "timeout",
    "trusted-host",
}
_AUTHORITY = "/etc/pip-ca.pem"  # where the Dockerfile mounts the secret `ca`


def pip_settings() -> dict[str, str]:
    """What this machine's pip is told, by file and by environment, each setting once."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout  # noqa: S603
    pairs = (line.partition("=") for line in listed.splitlines())
    told = sorted((name, ast.literal_eval(value)) for name, _, value in pairs)
    files = {name.rpartition(".")[2]: str(value) for name, value in told if name[0] != ":"}
    return files | {name.rpartition(".")[2]: str(value) for name, value in told if name[0] == ":"}


def secrets(settings: dict[str, str], folder: Path) -> dict[str, Path]:
    """The build's secrets `pip` and `ca`, where there is something to tell.

    Args:
        settings: As `pip_settings` gives them.
        folder: Where to write the first.
    """
    lines = {name: " ".join(_remote(told)) for name, told in settings.items() if name in _INDEX}
    authority = settings.get("cert") or os.environ.get("SSL_CERT_FILE")
    kept = {}
    if authority:
        kept["ca"] = Path(authority)
        lines["cert"] = _AUTHORITY
    text = "".join(f"{name} = {told}\n" for name, told in lines.items() if told)
    if text:
        kept["pip"] = folder / "pip.conf"
        kept["pip"].write_text(f"[global]\n{text}")
    return kept


def _remote(told: str) -> list[str]:
    """The parts of a setting, without folders of this machine: a build does not see them."""
    return [part for part in told.split() if not part.startswith(("/", "file:"))]
