"""Attempts to open more than the image itself are refused or have no effect."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from tasks.errors import ImageError
from tasks.grid.tiles import Grid
from tasks.imagery import Image, TilePixels, open_image, read_tiles
from tests.range_server import RangeServer

PLACE = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}
WIDTH, HEIGHT = 90, 70


class Elsewhere(ThreadingHTTPServer):
    """A server that must not receive any request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Listener)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/x.tif"


class _Listener(BaseHTTPRequestHandler):
    server: Elsewhere

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server asks for

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Do not log."""


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def write(file: Path, driver: str = "GTiff", **options: Any) -> Path:
    shape = {"width": WIDTH, "height": HEIGHT, "count": 1, "dtype": "uint8"}
    with rasterio.open(file, "w", driver=driver, **({**shape, **PLACE} | options)) as dataset:
        dataset.write(np.full((1, HEIGHT, WIDTH), 7, np.uint8))
    return file


def tiff(**texts: bytes) -> bytes:
    """A TIFF of 4 × 4 pixels with texts in the tags of these numbers (`t700`)."""
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 277: 1, 278: 4, 279: 16}
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()}
    end = 8 + 2 + 12 * (len(tags) + 1 + len(texts)) + 4
    body = b""
    for name, text in texts.items():
        tag = int(name[1:])
        entries[tag] = struct.pack("<HHII", tag, 2, len(text), end + len(body))
        body += text
    entries[273] = struct.pack("<HHII", 273, 4, 1, end + len(body))
    directory = struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries))
    return struct.pack("<2sHI", b"II", 42, 8) + directory + bytes(4) + body + bytes(range(16))


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def jp2(folder: Path, *boxes: bytes) -> bytes:
    """A JPEG 2000 file with boxes before its codestream."""
    plain = write(folder / "plain.jp2", "JP2OpenJPEG").read_bytes()
    start = plain.index(b"jp2c") - 4
    header = plain[: plain.index(b"uuid") - 4] if b"uuid" in plain[:start] else plain[:start]
    return header + b"".join(boxes) + plain[start:]


def gml(text: str) -> bytes:
    root = box(b"lbl ", b"gml.root-instance") + box(b"xml ", text.encode())
    return box(b"asoc", box(b"lbl ", b"gml.data") + box(b"asoc", root))


def read_all(image: Image) -> list[Any]:
    grid = Grid(image.width, image.height, 64, 8)
    (region,) = grid.regions(10**9)
    return list(read_tiles(image, grid.tiles(region)))


def opened(file: Path) -> Image:
    """Open an image and read all of its tiles."""
    image = open_image(str(file), roots=[file.parent])
    for one in read_all(image):
        assert isinstance(one, TilePixels), one
    return image


# Where an image may lie


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.tif",
        "http://169.254.169.254/latest/meta-data",
        "/vsicurl/https://example.com/a.tif",
        "/vsicurl?url=https://example.com/a.tif",
        "/vsis3/bucket/key",
        "/vsizip/a.zip/a.tif",
        "/vsimem/a.tif",
        "file:///etc/passwd",
        "gs://bucket/key",
        "s3://bucket",
        "s3://bucket/",
        "s3://BUCKET/key",
        "s3://b/key",
        "s3://bucket/../other/key",
        "s3://bucket/a/./key",
        "s3://bucket/folder/",
        "s3://bucket/a\0b",
        "s3://bucket/\ud800",
        "s3://bucket/" + "k" * 1025,
        "NITF_IM:0:/etc/passwd",
        "GTIFF_DIR:1:/etc/passwd",
        "JP2OpenJPEG:/etc/passwd",
        "<VRTDataset/>",
        '{"type": "gdal_streamed_alg"}',
        "",
        ".",
        "a\0b",
        "\ud800",
        "../../etc/passwd",
        "%2e%2e/etc/passwd",
        "/" + "x" * 300,
        "x" * 100_000,
    ],
)
def test_other_locations_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ImageError, match=r"s3://|SWATH_LOCAL_ROOTS|not a file|key") as refusal:
        open_image(url, roots=[tmp_path])
    assert len(str(refusal.value)) < 1000 + len(str(tmp_path))


@pytest.mark.parametrize(
    "key",
    [
        "a b+c.tif",
        "a?versionId=1&x=*.tif",
        "a%2e%41.tif",
        "a#b;c,d!e'(f)@g$.tif",
        "line\nbreak.tif",
        "ü 漢.tif",
        "{a}",
        "a.zip/x.tif",
        "/vsicurl/http://127.0.0.1:1/x.tif",
        "NITF_IM:0:x",
        "a.vrt",
    ],
)
def test_an_s3_key_is_used_literally(s3: RangeServer, tmp_path: Path, key: str) -> None:
    path = "".join(map(chr, f"/bucket/{key}".encode()))  # as the server takes percent escapes
    s3.objects[path] = write(tmp_path / "a.tif").read_bytes()
    assert open_image(f"s3://bucket/{key}").size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "name",
    ["a#b.tif", "a?b.tif", "a%20b.tif", "a\nb.tif", "{a}.tif", "zip+file:x.tif!y", "NITF_IM:0:x"],
)
def test_a_file_name_is_used_literally(tmp_path: Path, name: str) -> None:
    assert Path(opened(write(tmp_path / "plain").rename(tmp_path / name)).url).name == name


def test_only_files_under_the_roots_are_opened(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    file = write(outside / "a.tif")
    (inside / "link.tif").symlink_to(file)
    (inside / "folder").symlink_to(outside)
    for name in ("out/a.tif", "in/link.tif", "in/../out/a.tif", "in/folder/a.tif", "in-2/a.tif"):
        url = str(tmp_path / name)
        with pytest.raises(ImageError, match="SWATH_LOCAL_ROOTS"):
            open_image(url, roots=[inside])
        with pytest.raises(ImageError, match=r"local roots \(none\)"):
            open_image(url)
    assert open_image(str(inside / "link.tif"), roots=[inside, outside])


def test_a_path_that_is_not_a_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name in ("fifo", "circle", "absent", "."):
        with pytest.raises(ImageError, match=r"not a (file|path)"):
            open_image(str(tmp_path / name), roots=[tmp_path])
    with pytest.raises(ImageError, match="not a file"):
        open_image("/dev/zero", roots=[Path("/dev")])


# What a file may be


@pytest.mark.parametrize(
    "text",
    [
        "<VRTDataset rasterXSize='9' rasterYSize='9'/>",
        "<GDAL_WMS><Service name='TMS'/></GDAL_WMS>",
        "<GDALTileIndexDataset/>",
        "<WMS_Capabilities/>",
        "<?xml version='1.0'?><Dimap_Document/>",
        '{"type": "gdal_streamed_alg"}',
        "PK\3\4",
        "GRIB",
        "\x89HDF\r\n\x1a\n",
        "CDF\1",
        "%PDF-1.7",
    ],
)
def test_a_format_that_is_not_allowed_is_refused_by_its_first_bytes(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(text.encode("latin-1").ljust(200))
    with pytest.raises(ImageError, match="not an image that Swath reads"):
        open_image(str(file), roots=[tmp_path])


# What a file may say of others


@pytest.mark.parametrize("form", ["tif", "jp2"])
@pytest.mark.parametrize("target", ["/vsicurl/{url}", "{secret}", "<GDAL_WMS>{url}</GDAL_WMS>"])
def test_overviews_in_other_files_are_refused(
    tmp_path: Path, elsewhere: Elsewhere, form: str, target: str
) -> None:
    secret = write(tmp_path / "secret.tif")
    item = target.format(url=elsewhere.url, secret=secret).replace("<", "&lt;")
    file = tmp_path / f"a.{form}"
    if form == "tif":
        text = f'<Item name="OVERVIEW_FILE" domain="OVERVIEWS">{item}</Item>'
        file.write_bytes(tiff(t42112=f"<GDALMetadata>{text}</GDALMetadata>\0".encode()))
    else:
        text = f'<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{item}</MDI></Metadata>'
        xml = f"<GDALMultiDomainMetadata>{text}</GDALMultiDomainMetadata>"
        file.write_bytes(jp2(tmp_path, box(b"xml ", xml.encode())))
    with pytest.raises(ImageError, match=r"refers to other files .*OVERVIEW_FILE"):
        open_image(str(file), roots=[tmp_path])
    assert not elsewhere.asked


SRS = ["{url}", "/vsicurl/{url}", "file:///etc/passwd", "#gmljp2://xml/{url}"]


@pytest.mark.parametrize("srs", SRS)
def test_gml_in_jpeg_2000_fetches_nothing(tmp_path: Path, elsewhere: Elsewhere, srs: str) -> None:
    name = srs.format(url=elsewhere.url)
    link = f'xlink:href="{elsewhere.url}"'
    file = tmp_path / "a.jp2"
    file.write_bytes(
        jp2(
            tmp_path,
            gml(
                '<gml:FeatureCollection xmlns:gml="http://www.opengis.net/gml" '
                'xmlns:xlink="http://www.w3.org/1999/xlink" '
                'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
                f'xsi:schemaLocation="http://www.opengis.net/gml {elsewhere.url}">'
                f"<gml:metaDataProperty {link}/><gml:featureMember {link}/>"
                f'<gml:RectifiedGrid dimension="2" srsName="{name}"><gml:origin>'
                f'<gml:Point srsName="{name}"><gml:pos>5 6</gml:pos></gml:Point></gml:origin>'
                f'<gml:offsetVector srsName="{name}">1 0</gml:offsetVector>'
                f'<gml:offsetVector srsName="{name}">0 -1</gml:offsetVector>'
                "</gml:RectifiedGrid></gml:FeatureCollection>"
            ),
        )
    )
    opened(file)
    assert not elsewhere.asked


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY l0 "lol">'
    + "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(12))
    + "]>"
)


@pytest.mark.parametrize("tag", ["t42112", "t700", "t50909"])  # GDAL_METADATA, XMP, GEO_METADATA
def test_xml_in_tiff_expands_no_entity(tmp_path: Path, elsewhere: Elsewhere, tag: str) -> None:
    outside = f'<!DOCTYPE d [<!ENTITY e SYSTEM "{elsewhere.url}">]>'
    for text in (
        f'{BOMB}<GDALMetadata><Item name="TIFFTAG_DOCUMENTNAME">&l12;</Item></GDALMetadata>',
        f'{outside}<GDALMetadata><Item name="TIFFTAG_DOCUMENTNAME">&e;</Item></GDALMetadata>',
        "<GDALMetadata>" + "<a>" * 100_000,
    ):
        file = tmp_path / "a.tif"
        file.write_bytes(tiff(**{tag: text.encode() + b"\0"}))
        (source,) = opened(file).source_metadata
        assert len(source["sourceId"] or "") < 10
    assert not elsewhere.asked


def test_xml_in_jpeg_2000_expands_no_entity(tmp_path: Path, elsewhere: Elsewhere) -> None:
    outside = f'<!DOCTYPE d [<!ENTITY e SYSTEM "{elsewhere.url}">]>'
    for text in (f"{BOMB}<a srsName='&l12;'>&l12;</a>", f"{outside}<a srsName='&e;'>&e;</a>"):
        file = tmp_path / "a.jp2"
        file.write_bytes(jp2(tmp_path, gml(text), box(b"xml ", text.encode())))
        opened(file)
    assert not elsewhere.asked


@pytest.mark.parametrize("text", [b"zTXtTitle\0\0", b"iTXtTitle\0\1\0\0\0", b"iCCPp\0\0"])
def test_a_compressed_text_of_a_png_cannot_exhaust_the_memory(tmp_path: Path, text: bytes) -> None:
    plain = write(tmp_path / "a.png", "PNG", crs=None, transform=Affine(2, 0, 0, 0, -2, 0))
    packed = zlib.compress(bytes(100 << 20), 9)
    chunk = text + packed
    head, rest = plain.read_bytes()[:33], plain.read_bytes()[33:]
    size, check = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    plain.write_bytes(head + size + chunk + check + rest)
    (source,) = opened(plain).source_metadata
    assert len(source["sourceId"] or "") <= 1024


NAMES = ["{f}.ovr", "{f}.msk", "{f}.aux.xml", "{f}.aux", "{s}.aux", "{s}.rrd", "{s}.xml", "{s}.IMD"]
NAMES += ["{s}.RPB", "{s}_RPC.TXT", "{s}_rpc.txt", "{s}.wld", "{s}.tfw", "{s}.j2w", "{s}.prj"]


@pytest.mark.parametrize("driver", ["GTiff", "NITF", "PNG", "JPEG", "HFA", "JP2OpenJPEG"])
def test_sidecars_are_not_followed(tmp_path: Path, elsewhere: Elsewhere, driver: str) -> None:
    file = tmp_path / "a.img"
    options: dict[str, Any] = {"ICORDS": "N"} if driver == "NITF" else {}
    write(file, driver, **options)
    for sidecar in set(tmp_path.iterdir()) - {file}:
        sidecar.unlink()
    alone = open_image(str(file), roots=[tmp_path])
    for name in NAMES:
        sidecar = tmp_path / name.format(f=file.name, s=file.stem)
        sidecar.write_text(
            f"<VRTDataset rasterXSize='{WIDTH}' rasterYSize='{HEIGHT}'>"
            "<Metadata><MDI key='INTERNAL_MASK_FLAGS_1'>2</MDI></Metadata>"
            "<GeoTransform>9,9,0,9,0,-9</GeoTransform><VRTRasterBand band='1' dataType='Byte'>"
            f"<SimpleSource><SourceFilename>/vsicurl/{elsewhere.url}</SourceFilename>"
            "</SimpleSource></VRTRasterBand></VRTDataset>"
            if name.endswith((".ovr", ".msk"))
            else "9\n0\n0\n-9\n9\n9\n"
        )
    image = opened(file)
    assert image == alone
    assert not elsewhere.asked


def test_an_hfa_file_with_its_pixels_in_another_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.img", "HFA", USE_SPILL="YES")
    with pytest.raises(ImageError, match=r"another file \(\.ige\)"):
        open_image(str(tmp_path / "a.img"), roots=[tmp_path])


def test_only_the_object_itself_is_requested_from_s3(s3: RangeServer, tmp_path: Path) -> None:
    asked: set[str] = set()
    plain: Any = s3.RequestHandlerClass

    class Handler(plain):  # type: ignore[misc]
        def parse_request(self) -> bool:
            whole = bool(super().parse_request())
            asked.add(self.path)
            return whole

    s3.RequestHandlerClass = Handler
    for driver in ("GTiff", "HFA", "JP2OpenJPEG", "PNG"):
        s3.objects = {f"/bucket/{driver}": write(tmp_path / driver, driver).read_bytes()}
        image = open_image(f"s3://bucket/{driver}")
        assert all(isinstance(one, TilePixels) for one in read_all(image))
        assert asked == {f"/bucket/{driver}"}
        asked.clear()
