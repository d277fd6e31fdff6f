"""A static STAC catalog of the results under a prefix or in a folder.

`catalog.json` links the STAC Items there, or the catalogs of the jobs if there are several,
`catalog.<job>.json`. All links are relative, so the folder can be copied or served from anywhere.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tasks.errors import RequestError
from tasks.publish.formats import STAC
from tasks.publish.manifest import MANIFEST, Manifest, ManifestState
from tasks.publish.stac import STAC_VERSION
from tasks.request.locations import file_name
from tasks.storage import conditional, objects

_CATALOG = "catalog.json"
_READERS = 16  # manifests that are read at the same time
_MARK = "swath:results"


@dataclass(frozen=True)
class Cataloged:
    """What a catalog was made of.

    Attributes:
        uri: URI of the catalog.
        items: Number of STAC Items that it has.
        without: Job of each complete result that has no STAC Item.
    """

    uri: str
    items: int
    without: Sequence[str]


def write_catalog(uri: str) -> Cataloged:
    """Write the catalog of all complete results under a prefix or in a folder.

    Args:
        uri: `s3://bucket/prefix` or a local folder.

    Raises:
        RequestError: No result there has a STAC Item, or a catalog there is somebody else's.
        PublishError: It cannot be read or written.
    """
    found = [name for name in objects.list_tree(uri) if name.endswith(f".{MANIFEST}")]
    with ThreadPoolExecutor(_READERS) as threads:
        manifests = list(threads.map(lambda name: _manifest(objects.join(uri, name)), found))
    items: dict[str, list[dict[str, str]]] = defaultdict(list)
    without: list[str] = []
    for name, manifest in zip(found, manifests, strict=True):
        if manifest is None or manifest.state is not ManifestState.COMPLETE:
            continue
        item = next((file.name for file in manifest.files if file.kind == STAC), None)
        if item is None:
            without.append(manifest.job)
            continue
        folder, slash, _ = name.rpartition("/")
        title = f"{file_name(manifest.image)}: {manifest.status}"
        items[manifest.job].append(_link("item", f"{folder}{slash}{item}", title))
    if not items:
        jobs = f" (such as job {without[0]})" if without else ""
        raise RequestError(
            f"{uri} has {len(without)} results{jobs}, and none has a STAC Item: name the format "
            "stac in a request's outputs, or publish again: `swath publish JOB --formats "
            "geojson,parquet,stac`."
        )
    number = sum(map(len, items.values()))
    title = objects.join(uri).rpartition("/")[2]
    if len(items) == 1:
        ((job, links),) = items.items()
        _write(uri, _CATALOG, title, f"Results of job {job}", links)
        return Cataloged(objects.join(uri, _CATALOG), number, without)
    children = []
    for job, links in sorted(items.items()):
        name = f"catalog.{job}.json"
        _write(uri, name, job, f"Results of job {job}", links, parent=title)
        children.append(_link("child", name, job))
    _write(uri, _CATALOG, title, f"Results of {len(items)} jobs", children)
    return Cataloged(objects.join(uri, _CATALOG), number, without)


def _manifest(uri: str) -> Manifest | None:
    found = conditional.read(uri)
    return Manifest.parse(found[0]) if found else None


def _link(rel: str, path: str, title: str) -> dict[str, str]:
    kind = "application/geo+json" if rel == "item" else "application/json"
    return {"rel": rel, "href": f"./{quote(path)}", "type": kind, "title": title}


def _write(
    uri: str,
    name: str,
    title: str,
    description: str,
    links: Sequence[Mapping[str, str]],
    *,
    parent: str | None = None,
) -> None:
    own = [_link("root", _CATALOG, parent or title)]
    if parent is not None:
        own.append(_link("parent", _CATALOG, parent))
    catalog: dict[str, Any] = {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": title,
        "title": title,
        "description": description,
        _MARK: len(links),
        "links": [*own, *sorted(links, key=lambda link: link["href"])],
    }
    target = objects.join(uri, name)
    there = conditional.read(target)
    if there is not None and f'"{_MARK}"'.encode() not in there[0]:
        raise RequestError(
            f"{target} is there, and not by `swath catalog`: name another prefix or folder, or "
            "remove it."
        )
    objects.put(target, json.dumps(catalog, indent=2, ensure_ascii=False).encode() + b"\n")
