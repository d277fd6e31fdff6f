"""`swath view`: opens the page of a result in a browser, and makes it if there is none."""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from secrets import token_urlsafe
from typing import NamedTuple
from urllib.parse import quote, unquote

from rich.console import Console

from deployments.local.loopback import HOST
from tasks.errors import RequestError, SwathError
from tasks.imagery import Image, open_image
from tasks.publish import FILE_ENDINGS
from tasks.publish.manifest import MANIFEST, Manifest, ManifestState
from tasks.publish.page import page_of_files
from tasks.storage import objects

_MAX_LISTED = 10
_PAGE = f".{FILE_ENDINGS['html']}"


class ResultPage(NamedTuple):
    """The page of an image's results.

    Attributes:
        name: Name of its file.
        body: The bytes of the file.
        file: The file, if there is one on this machine; or None.
    """

    name: str
    body: bytes
    file: Path | None = None


def view(result: str, console: Console, *, out: Path | None = None) -> int:
    """Open the page of a result in a browser, or write it to a file.

    A file on this machine is opened as it is. Any other page is served on the loopback address
    until Ctrl-C.

    Args:
        result: A folder or s3:// prefix with the results of one image, one of their files, or a
            page.
        console: Where messages are printed.
        out: File to write the page to, in place of opening it.

    Raises:
        RequestError: There is no such result, there are several, or it is not complete.
        PublishError: A file cannot be read or written.
    """
    page = result_page(result, console)
    if out is not None:
        objects.put(str(out.absolute()), page.body)
        console.print(f"The page of {page.name.removesuffix(_PAGE)} is in {out}", soft_wrap=True)
    elif page.file is not None:
        _open(page.file.absolute().as_uri(), console)
    else:
        with serving(page) as (server, url):
            _open(url, console)
            console.print("Served here until Ctrl-C")
            server.serve_forever()
    return 0


def result_page(result: str, console: Console) -> ResultPage:
    """The page that was published with a result, or one that is made of its other files.

    Raises:
        RequestError: As `view`.
        PublishError: As `view`.
    """
    uri = result.rstrip("/") if objects.is_s3(result) else str(Path(result).expanduser().absolute())
    if not uri.endswith(_PAGE):
        uri = _manifest_uri(uri)
    folder, _, name = uri.rpartition("/")
    if uri.endswith(_PAGE):
        return _published(folder, name)
    manifest = Manifest.parse(objects.get(uri))
    if manifest is None or manifest.state is not ManifestState.COMPLETE:
        raise RequestError(
            f"{uri} is not the manifest of a complete result: wait until its run has ended, or "
            "run it again."
        )
    files = {file.kind: file.name for file in manifest.files}
    page = files.get("html")
    if page and objects.exists(objects.join(folder, page)):
        return _published(folder, page)
    why = f"{page} is gone" if page else f"{uri} names no page"
    console.print(f"{why}: it is made of the other files", soft_wrap=True)
    stem = name.removesuffix(f".{MANIFEST}")
    return ResultPage(f"{stem}{_PAGE}", _made(folder, files, manifest).encode())


def _published(folder: str, name: str) -> ResultPage:
    uri = objects.join(folder, name) if objects.is_s3(folder) else str(Path(folder, name))
    file = None if objects.is_s3(uri) else Path(uri)
    return ResultPage(name, objects.get(uri), file)


def _manifest_uri(uri: str) -> str:
    """The manifest, or the only page, of a folder, a prefix, or one of the files of a result."""
    if uri.endswith(f".{MANIFEST}"):
        return uri
    folder, _, name = uri.rpartition("/")
    for ending in sorted(FILE_ENDINGS.values(), key=len, reverse=True):
        if name.endswith(f".{ending}") and objects.exists(uri):
            return str(objects.join(folder, f"{name.removesuffix(f'.{ending}')}.{MANIFEST}"))
    names = objects.list_names(uri)
    manifests = [each for each in names if each.endswith(f".{MANIFEST}")]
    found = manifests or [each for each in names if each.endswith(_PAGE)]
    if len(found) == 1:
        return f"{uri}/{found[0]}"
    if not found:
        raise RequestError(
            f"{uri}: there is no result: give the folder or the s3:// prefix that a job published "
            f"to, or a file that ends in {MANIFEST}."
        )
    listed = ", ".join(found[:_MAX_LISTED]) + (", …" if len(found) > _MAX_LISTED else "")
    raise RequestError(
        f"{uri}: there are {len(found)} results, of several images or jobs: name one, such as "
        f"{uri}/{found[0]}. There are {listed}"
    )


def _made(folder: str, files: dict[str, str], manifest: Manifest) -> str:
    """The text of a page, from the published files."""
    if "coverage" not in files:
        raise RequestError(f"{folder}: the result has no ledger of tiles: publish it again.")
    if manifest.features and "parquet" not in files:
        raise RequestError(
            f"{folder}: the page is made of GeoParquet, and there is none: publish the job again "
            "with the format parquet or html in outputs[].formats."
        )
    with tempfile.TemporaryDirectory(prefix="swath-view-") as scratch:
        local = {
            kind: _local(objects.join(folder, files[kind]), folder, Path(scratch))
            for kind in ("coverage", "parquet", "raster")
            if kind in files
        }
        return page_of_files(
            manifest,
            local["coverage"],
            local.get("parquet"),
            local.get("raster"),
            _image(manifest),
        )


def _local(uri: str, folder: str, scratch: Path) -> Path:
    """A file of a result on this machine: those in S3 are downloaded."""
    if not objects.is_s3(folder):
        return Path(uri)
    path = scratch / uri.rpartition("/")[2]
    path.write_bytes(objects.get(uri))
    return path


def _image(manifest: Manifest) -> Image | str:
    """The image, or why it is not shown."""
    url = manifest.image
    try:
        image = open_image(url, roots=[] if objects.is_s3(url) else [Path(url).parent])
    except SwathError as error:
        return str(error)
    return image if image.etag == manifest.etag else f"{url} has been replaced since the run"


@contextmanager
def serving(page: ResultPage) -> Iterator[tuple[HTTPServer, str]]:
    """A server of one page on the loopback address, under an address that nobody can guess.

    Yields:
        The server, which answers once it runs, and the address of the page.
    """
    path = f"/{token_urlsafe(16)}/{quote(page.name)}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if unquote(self.path) != unquote(path):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name there
            """Log nothing."""

    with HTTPServer((HOST, 0), Handler) as server:
        yield server, f"http://{HOST}:{server.server_port}{path}"


def _open(url: str, console: Console) -> None:
    opened = webbrowser.open(url)
    console.print(url if opened else f"Open this in a browser: {url}", soft_wrap=True)
