"""The image's bill of materials and the licences of what is in it, written in the image's build.

`cyclonedx-py` lists the Python packages. This adds Python itself and the packages of the operating
system, validates the whole against the schema of CycloneDX, and collects the licence texts.

Run by the Python of the build's own environment, which has cyclonedx-python-lib.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

_LICENCE_FILE = re.compile(r"(un)?licen[cs]e|copying|notice|authors", re.IGNORECASE)
_DPKG = Path("/var/lib/dpkg/status")
_RULE = "=" * 80


def complete(bill: dict[str, Any], installed: Iterable[Distribution]) -> dict[str, Any]:
    """A bill of Python packages with a licence for each, Python, and the packages of the system.

    Args:
        bill: CycloneDX as JSON, of `cyclonedx-py environment`.
        installed: The Python packages.
    """
    files = {_normal(each.name): dict(licence_files(each)) for each in installed}
    for component in bill["components"]:
        texts = files.get(_normal(component["name"]), {})
        if not component.get("licenses") and texts:  # it has the text, without its short name
            name, text = next(iter(texts.items()))
            component["licenses"] = [
                {"license": {"name": f"as in its {name}", "text": {"content": text}}}
            ]
    system = [_python(), *(_debian(each) for each in _dpkg_packages()), *_rpm_packages()]
    return bill | {"components": [*bill["components"], *system]}


def licence_files(distribution: Distribution) -> Iterator[tuple[str, str]]:
    """The licence files of a Python package, as it was installed, and their texts."""
    for file in distribution.files or ():
        if _LICENCE_FILE.match(file.name) and ".dist-info" in file.parts[0]:
            path = Path(str(distribution.locate_file(file)))
            if path.is_file():
                yield file.name, path.read_text(encoding="utf-8", errors="replace").strip()


def notices(bill: dict[str, Any], installed: Iterable[Distribution]) -> str:
    """What is in the image under which licence, then the texts, each once."""
    listed = [
        f"{each['name']} {each.get('version', '')}: {', '.join(_licences(each)) or _COPYRIGHT}"
        for each in bill["components"]
    ]
    texts: dict[str, list[str]] = {}
    for distribution in installed:
        for name, text in licence_files(distribution):
            texts.setdefault(text, []).append(f"{distribution.name}, {name}")
    told = [f"{_RULE}\n{'; '.join(of)}\n{_RULE}\n\n{text}\n" for text, of in texts.items()]
    return "\n".join([_HEAD, *listed, "", *told])


_HEAD = """Swath is licensed under the Apache License 2.0, see LICENSE. This image also contains:
"""
_CLASSIFIER = "License :: OSI Approved :: "
_COPYRIGHT = "see /usr/share/doc/*/copyright"


def _licences(component: dict[str, Any]) -> list[str]:
    given = component.get("licenses", [])
    names = (each.get("expression") or each["license"].get("id") for each in given)
    return [
        name or each["license"]["name"].removeprefix(_CLASSIFIER).splitlines()[0][:80]
        for name, each in zip(names, given, strict=True)
    ]


def _python() -> dict[str, Any]:
    return {
        "type": "platform",
        "bom-ref": "cpython",
        "name": "cpython",
        "version": platform.python_version(),
        "licenses": [{"license": {"id": "PSF-2.0"}}],
    }


def _dpkg_packages() -> Iterator[dict[str, str]]:
    """The fields of each package that dpkg has installed; none where there is no dpkg."""
    if not _DPKG.is_file():
        return
    for paragraph in _DPKG.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            yield fields


def _debian(fields: dict[str, str]) -> dict[str, Any]:
    name, version, architecture = (fields[key] for key in ("Package", "Version", "Architecture"))
    release = platform.freedesktop_os_release()
    kind = f"{release['ID']}/{quote(name)}@{quote(version, safe='')}"
    return {
        "type": "library",
        "bom-ref": f"deb:{name}:{architecture}",
        "name": name,
        "version": version,
        "purl": f"pkg:deb/{kind}?arch={architecture}&distro={release['ID']}-"
        f"{release.get('VERSION_ID', '')}".rstrip("-"),
    }


def _rpm_packages() -> Iterator[dict[str, Any]]:
    """The packages of a base image that has RPM, with their licences."""
    if not shutil.which("rpm"):
        return
    form = r"%{NAME}\t%{VERSION}-%{RELEASE}\t%{ARCH}\t%{LICENSE}\n"
    command = ["rpm", "--query", "--all", "--queryformat", form]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    vendor = platform.freedesktop_os_release()["ID"]
    for line in sorted(listed.stdout.splitlines()):
        name, version, architecture, licence = line.split("\t")
        where = f"{quote(name)}@{quote(version, safe='')}?arch={architecture}"
        yield {
            "type": "library",
            "bom-ref": f"rpm:{name}:{version}:{architecture}",
            "name": name,
            "version": version,
            "purl": f"pkg:rpm/{vendor}/{where}",
            "licenses": [{"license": {"name": licence}}],
        }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Write both files from the options of the command line; return the exit status."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    parser = argparse.ArgumentParser(prog="deployments.image.bill", description=__doc__)
    parser.add_argument("bill", type=Path, help="what `cyclonedx-py environment` wrote; completed")
    parser.add_argument("notices", type=Path, help="file for the licences, replaced")
    parser.add_argument("packages", type=Path, help="site-packages of the environment")
    options = parser.parse_args()
    installed = sorted(distributions(path=[str(options.packages)]), key=lambda each: each.name)
    bill = complete(json.loads(options.bill.read_text(encoding="utf-8")), installed)
    text = json.dumps(bill, indent=1)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        print(f"swath: the bill of materials is not CycloneDX 1.6: {error}", file=sys.stderr)
        return 1
    options.bill.write_text(text, encoding="utf-8")
    options.notices.write_text(notices(bill, installed), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
