"""The host's settings for package indexes, passed to a build as secrets.

Build secrets are not stored in a layer of the image: the index may have a password in its URL.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

_INDEX_SETTINGS = {
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
    """The settings of this machine's pip; the environment overrides its files."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    pairs = (line.partition("=") for line in listed.splitlines())
    settings = sorted((name, ast.literal_eval(value)) for name, _, value in pairs)
    files = {name.rpartition(".")[2]: str(value) for name, value in settings if name[0] != ":"}
    return files | {
        name.rpartition(".")[2]: str(value) for name, value in settings if name[0] == ":"
    }


def secrets(settings: dict[str, str], folder: Path) -> dict[str, Path]:
    """The files of the build secrets `pip` and `ca`, without those that would be empty.

    Args:
        settings: Settings from `pip_settings`.
        folder: Folder for pip.conf, the secret `pip`.
    """
    lines = {
        name: " ".join(_remote(value))
        for name, value in settings.items()
        if name in _INDEX_SETTINGS
    }
    authority = settings.get("cert") or os.environ.get("SSL_CERT_FILE")
    files = {}
    if authority:
        files["ca"] = Path(authority)
        lines["cert"] = _AUTHORITY
    text = "".join(f"{name} = {value}\n" for name, value in lines.items() if value)
    if text:
        files["pip"] = folder / "pip.conf"
        files["pip"].write_text(f"[global]\n{text}")
    return files


def _remote(value: str) -> list[str]:
    """The parts of a setting that are not local folders, which a build cannot read."""
    return [part for part in value.split() if not part.startswith(("/", "file:"))]
