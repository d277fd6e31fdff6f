"""The page of an image's results in a browser: what a user sees, clicks and shares."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import rasterio
from PIL import Image as Picture
from playwright.sync_api import Browser, Page, expect
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from tasks.imagery import open_image
from tasks.publish import FeatureMetadata, publish
from tasks.publish.page import page_of_files
from tasks.request import FileOutput
from tasks.results import coverage
from tests.provenance import provenance
from tests.result_pages import (
    FAILURE,
    HOSTILE,
    NO_CHROMIUM,
    PHONE,
    Visit,
    browser,
    detections,
    results,
    visit,
    written,
)

pytestmark = [NO_CHROMIUM, pytest.mark.filterwarnings("ignore::ResourceWarning")]
FEATURES = 900


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def url(folder: Path) -> str:
    return written(folder / "scene.tif.html", results(folder, detections(FEATURES))).as_uri()


@pytest.fixture(scope="module")
def seen(chromium: Browser, url: str) -> Iterator[Visit]:
    with visit(chromium, url) as seen:
        yield seen


@pytest.fixture
def page(seen: Visit, url: str) -> Page:
    """The page of 900 features as it is when it is opened."""
    seen.go(url)
    return seen.page


def of(page: Page, folder: Path, x: float, y: float) -> list[int]:
    """Red, green and blue that the map shows at a pixel of the image, the whole of it in view."""
    box = page.locator("#map").bounding_box()
    assert box
    scale = 0.98 * min(box["width"] / 900, box["height"] / 700)
    page.locator("#map").screenshot(path=folder / "map.png")
    place = int(box["width"] / 2 + scale * (x - 450)), int(box["height"] / 2 + scale * (y - 350))
    with Picture.open(folder / "map.png") as picture:
        red, green, blue = picture.convert("RGB").getpixel(place)  # type: ignore[misc]
        return [red, green, blue]


def set_score(page: Page, score: float) -> None:
    page.locator("#score").fill(str(score))


def shown(page: Page, text: str) -> None:
    """Wait until the page says how many are shown."""
    page.get_by_text(text, exact=True).wait_for()


def test_it_asks_for_nothing_and_its_policy_has_nothing_to_refuse(seen: Visit, page: Page) -> None:
    assert [each for each in seen.requests if not each.startswith("data:")] == [page.url]
    assert seen.errors == []


def test_the_slider_filters_by_score(page: Page) -> None:
    scores = np.float32(detections(FEATURES)["score"].to_numpy())
    set_score(page, 0.6)
    number = int((scores >= np.float32(0.6)).sum())
    shown(page, f"{number} of {FEATURES} shown")
    histogram = page.get_by_role("img", name=re.compile("Histogram"))
    assert f"{number} detections" in (histogram.get_attribute("aria-label") or "")
    assert page.locator("#histogram rect.off").count() == 30
    page.locator("#score").press("ArrowRight")  # by the keyboard
    number = int((scores >= np.float32(0.61)).sum())
    shown(page, f"{number} of {FEATURES} shown")


def test_classes_are_chosen_one_by_one_or_alone(page: Page) -> None:
    names = detections(FEATURES)["class_name"].to_pylist()
    page.get_by_role("checkbox", name="ship").uncheck()
    shown(page, f"{FEATURES - names.count('ship')} of {FEATURES} shown")
    page.get_by_role("button", name="Only tug").click()
    shown(page, f"{names.count('tug')} of {FEATURES} shown")
    page.get_by_role("button", name="All", exact=True).click()
    shown(page, f"{FEATURES} of {FEATURES} shown")


def test_a_row_of_the_table_leads_to_its_detection(page: Page) -> None:
    table = detections(FEATURES)
    best = int(np.argmax(table["score"].to_numpy()))
    page.get_by_role("tab", name="Table").click()
    page.locator("tr.feature").first.click()
    card = page.locator("#card")
    assert f"{table['score'][best].as_py():.4f}" in card.inner_text()
    assert table["class_name"][best].as_py() in card.inner_text()
    page.wait_for_url(re.compile(r"#view=.*&feature=[0-9a-f]{32}&tab=table"))
    found = re.search(r"view=([\d.]+),([\d.]+),([\d.]+)", page.url)
    assert found
    assert float(found[1]) == pytest.approx(table["x_min"][best].as_py() + 6, abs=1)
    page.keyboard.press("ArrowDown")
    assert page.locator("tr.feature[aria-selected=true]").get_attribute("aria-rowindex") == "3"
    page.keyboard.press("Escape")
    card.wait_for(state="hidden")


def test_the_table_is_sorted_by_its_heads_and_has_all_rows(page: Page) -> None:
    page.get_by_role("tab", name="Table").click()
    page.get_by_role("button", name="Class").click()
    names = sorted(detections(FEATURES)["class_name"].to_pylist())
    assert page.locator("tr.feature td").first.inner_text() == names[0]
    page.locator("tr.feature").first.focus()
    page.keyboard.press("End")
    last = page.locator(f"tr[aria-rowindex='{FEATURES + 1}'] td").first
    assert last.inner_text() == names[-1]
    page.get_by_role("tab", name="Explore").click()
    page.get_by_role("button", name="Only tug").click()
    page.get_by_role("tab", name="Table").click()
    number = names.count("tug")
    page.locator(f"table[aria-rowcount='{number + 1}']").wait_for()
    page.get_by_role("button", name="Score").click()  # the best first, then the worst
    page.get_by_role("button", name="Score").click()
    chosen = detections(FEATURES).filter(pc.field("class_name") == "tug")["score"].to_numpy()
    last = page.locator(f"tr[aria-rowindex='{number + 1}'] td:nth-child(2)")
    expect(last).to_have_text(f"{chosen.max():.3f}")


def test_a_click_on_the_map_selects_what_lies_there(page: Page) -> None:
    box = page.locator("#map").bounding_box()
    assert box
    page.get_by_role("checkbox", name="Detections").uncheck()
    page.mouse.click(
        box["x"] + box["width"] / 2 + 0.9 * 50, box["y"] + box["height"] / 2 + 0.9 * 90
    )
    page.locator("#card").get_by_text(FAILURE).wait_for()
    assert "2 tiles failed" in page.locator("#card").inner_text()


def test_a_selected_tile_is_in_the_address(chromium: Browser, page: Page) -> None:
    page.get_by_role("checkbox", name="Detections").uncheck()
    page.get_by_role("checkbox", name="Blank tiles").check()
    width, height = (page.locator("#map").evaluate(f"each => each.client{side}")
                     for side in ("Width", "Height"))  # fmt: skip
    scale = 0.98 * min(width / 900, height / 700)
    for y, tile, words in ((150, "0,100", "9 tiles without data"), (450, "400,400", FAILURE)):
        position = {"x": width / 2, "y": height / 2 + scale * (y - 350)}
        page.locator("#map").click(position=position)  # type: ignore[arg-type]
        card = page.locator("#card")
        expect(card).to_contain_text(words)
        page.wait_for_url(re.compile(rf"#detections=0&blank=1&tile={tile}$"))
        with visit(chromium, page.url) as again:
            expect(again.page.locator("#card")).to_have_text(card.text_content() or "")
            again.page.wait_for_url(re.compile(rf"#view=.*&tile={tile}$"))  # it is shown large
    page.get_by_role("button", name="End the selection").click()
    page.wait_for_url(re.compile("#detections=0&blank=1$"))


@pytest.mark.parametrize(
    ("metres", "whole", "nearer"),
    [(0.5, "50 m", "20 m"), (0.02, "2 m", "1 m"), (30, "2 km", "1 km"), (None, "100 px", "50 px")],
)
def test_the_scale_bar_is_on_the_ground_where_it_is_known(
    chromium: Browser, folder: Path, metres: float | None, whole: str, nearer: str
) -> None:
    place = folder / f"scale {metres}"
    place.mkdir()
    profile: dict[str, Any] = {"width": 900, "height": 700, "count": 1, "dtype": "uint8"}
    if metres:
        profile |= {"crs": "EPSG:32633", "transform": from_origin(5e5, 5.4e6, metres, metres)}
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(place / "scene.tif", "w", "GTiff", **profile) as sink,
    ):
        sink.write(np.full((1, 700, 900), 90, np.uint8))
    path = written(place / "scene.html", results(place, detections(30)))
    with visit(chromium, path.as_uri()) as seen:
        scale, map_ = seen.page.locator("#scale"), seen.page.locator("#map")
        width, height = (
            map_.evaluate(f"each => each.client{side}") for side in ("Width", "Height")
        )
        shown = 0.98 * min(width / 900, height / 700)
        for text in (whole, nearer):
            expect(scale).to_have_text(text)
            number, unit = text.split()
            length = int(number) * {"km": 1000, "m": 1, "px": 1}[unit] / (metres or 1)
            bar = scale.locator("i").evaluate("each => parseFloat(each.style.width)")
            assert bar == pytest.approx(length * shown, abs=1)
            seen.page.get_by_role("button", name="Zoom in").click()
            shown *= 2


def test_the_map_is_used_by_the_keyboard(page: Page) -> None:
    page.locator("#map").focus()
    page.keyboard.press("n")
    first = page.locator("#card").inner_text()
    page.keyboard.press("n")
    assert page.locator("#card").inner_text() != first
    page.keyboard.press("p")
    assert page.locator("#card").inner_text() == first
    page.keyboard.press("Escape")
    page.keyboard.press("0")
    page.wait_for_url(re.compile(r"^[^#]*#?$"))
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile("#view="))


def test_layers_are_drawn_where_they_are(page: Page, folder: Path) -> None:
    page.get_by_role("checkbox", name="Detections").uncheck()
    sea, failed = (600, 600), (480, 470)
    red, green, _ = of(page, folder, *failed)
    assert red > green + 20
    page.get_by_role("checkbox", name="Failed tiles").uncheck()
    page.wait_for_timeout(300)
    without = of(page, folder, *failed)
    assert max(without) - min(without) < 25
    before = of(page, folder, *sea)
    page.get_by_role("checkbox", name="Image").uncheck()
    page.wait_for_timeout(300)
    assert of(page, folder, *sea) == [64, 64, 64] != before


def test_an_address_shows_the_same_again(chromium: Browser, page: Page) -> None:
    set_score(page, 0.5)
    page.get_by_role("checkbox", name="barge").uncheck()
    page.get_by_role("checkbox", name="Blank tiles").check()
    page.get_by_role("tab", name="Table").click()
    page.locator("tr.feature").nth(2).click()
    page.wait_for_url(re.compile("feature="))
    told = [page.locator("#card").inner_text(), page.locator("#table-count").inner_text()]
    with visit(chromium, page.url) as again:
        found = again.page
        assert [
            found.locator("#card").inner_text(),
            found.locator("#table-count").inner_text(),
        ] == told
        found.get_by_role("tab", name="Explore").click()
        assert not found.get_by_role("checkbox", name="barge").is_checked()
        assert found.get_by_role("checkbox", name="Blank tiles").is_checked()
        assert found.locator("#score").input_value() == "0.5"


@pytest.mark.parametrize(
    "address", ["#view=1,2", "#only=99999-3&score=x", "#feature=' or 1", "#&&="]
)
def test_an_address_that_means_nothing_does_no_harm(seen: Visit, url: str, address: str) -> None:
    seen.go(url + address)
    assert seen.errors == []
    assert seen.page.get_by_role("tab", name="Explore").get_attribute("aria-selected") == "true"


def test_the_facts_of_the_run(page: Page) -> None:
    page.get_by_role("tab", name="Run").click()
    words = page.locator("#run").inner_text()
    for each in ("PARTIAL", "96.8 %", "bright-targets (BUILTIN)", "45, of which 2 failed", FAILURE):
        assert each in words
    assert "Copyright" in page.locator("#run pre").text_content()  # type: ignore[operator]


def test_it_follows_the_colours_of_the_system(chromium: Browser, url: str) -> None:
    found = []
    for scheme in ("light", "dark"):
        with visit(chromium, url, color_scheme=scheme) as seen:
            colour = "getComputedStyle(document.querySelector('aside')).backgroundColor"
            found.append(seen.page.evaluate(colour))
    assert found == ["rgb(255, 255, 255)", "rgb(23, 27, 32)"]


def test_on_a_phone_everything_is_within_its_width(chromium: Browser, url: str) -> None:
    with visit(chromium, url, PHONE, has_touch=True, is_mobile=True) as seen:
        page = seen.page
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        page.get_by_role("tab", name="Table").tap()
        page.locator("tr.feature").nth(1).tap()
        page.locator("#card").wait_for()
        stage = page.locator("#stage").bounding_box()
        assert stage
        assert stage["height"] > 300


def test_a_failed_run_says_why(chromium: Browser, folder: Path) -> None:
    path = written(folder / "failed.html", results(folder, None))
    with visit(chromium, path.as_uri()) as seen:
        notice = seen.page.locator("#notice").inner_text()
        assert "63 tiles failed, and no tile was answered" in notice
        assert FAILURE in notice
        assert seen.page.get_by_role("checkbox", name="Failed tiles").is_checked()
        assert not seen.page.get_by_role("tab", name="Table").is_visible()


def test_no_features_are_said_and_the_image_is_shown(chromium: Browser, folder: Path) -> None:
    path = written(folder / "none.html", results(folder, detections(0)))
    with visit(chromium, path.as_uri()) as seen:
        assert "No detections" in seen.page.locator("#headline").inner_text()
        assert seen.page.get_by_role("checkbox", name="Image").is_checked()
        assert not seen.page.locator("#score").is_visible()
        assert seen.errors == []


def test_of_no_features_it_says_how_many_were_filtered_out(chromium: Browser, folder: Path) -> None:
    content = results(folder, detections(0))
    success = provenance(status="SUCCESS", covered=1, tiles={"inferred": 49})
    filtered = coverage.with_filtered(content.ledger, np.repeat(20, 124))
    content = replace(content, metadata=FeatureMetadata(success), ledger=filtered)
    path = written(folder / "filtered.html", content)
    with visit(chromium, path.as_uri()) as seen:
        notice = seen.page.locator("#notice").inner_text()
    assert "found nothing" not in notice
    assert "left out (filtered by class or score: 124)" in notice


def test_names_are_text_whatever_they_are(chromium: Browser, folder: Path) -> None:
    numbered = [f"class {number}" for number in range(10_000)]
    names = [*numbered, HOSTILE]  # the last one is frequent
    content = results(folder, detections(3000, names), job="<i>job")
    with visit(chromium, written(folder / "hostile.html", content).as_uri()) as seen:
        page = seen.page
        page.get_by_role("searchbox").fill("class 1")
        page.locator("#class-more").get_by_text("more classes").wait_for()
        page.get_by_role("button", name="None").click()
        page.get_by_role("searchbox").fill("onerror")
        expect(page.locator("#classes .text")).to_have_text([HOSTILE])
        page.get_by_role("checkbox", name=HOSTILE).uncheck()
        expect(page.locator("#class-count")).to_contain_text(" of ")
        assert page.title() == "scene.tif – Swath"
        assert page.locator("main img, header i, dd i, main b").count() == 0
        assert seen.errors == []


def test_without_the_image_there_is_no_picture(chromium: Browser, folder: Path) -> None:
    content = results(folder, detections(30), image=False)
    with visit(chromium, written(folder / "away.html", content).as_uri()) as seen:
        assert "No picture: " in seen.page.locator("#picture-note").inner_text()
        assert seen.page.get_by_role("checkbox", name="Image").count() == 0
        shown(seen.page, "30 of 30 shown")


def test_a_hundred_thousand_are_moved_and_filtered(chromium: Browser, folder: Path) -> None:
    table = pa.concat_tables([detections(100_000)] * 2)
    path = written(folder / "many.html", results(folder, table))
    with visit(chromium, path.as_uri()) as seen:
        page = seen.page
        shown(page, "100,000 of 100,000 shown")
        sample = page.locator("#sample").inner_text()
        assert "the 100,000 detections with the best scores" in sample
        assert "of 200,000" in sample
        page.locator("#map").focus()
        for key in ("+", "+", "ArrowLeft", "ArrowDown", "-", "0"):
            page.keyboard.press(key)
        page.mouse.move(400, 400)
        page.mouse.wheel(0, -300)
        set_score(page, 0.9)
        page.wait_for_url(re.compile(r"view=.*score=0\.9"))
        page.get_by_role("tab", name="Table").click()
        page.locator("tr.feature").first.click()
        page.locator("#card").wait_for()
        assert seen.errors == []


def test_a_raster_is_shown_faded_and_hidden(chromium: Browser, folder: Path) -> None:
    content = results(folder, detections(0))
    output = FileOutput(type="File", path=str(folder / "out"), formats=())
    ledger = publish([output], content, "scene.tif", [folder]).uris["coverage"]
    image = open_image(str(folder / "scene.tif"), roots=[folder])
    page_text = page_of_files(
        content.metadata.provenance, Path(ledger), None, class_map(folder / "map.tif"), image
    )
    (folder / "raster.html").write_text(page_text)
    with visit(chromium, (folder / "raster.html").as_uri()) as seen:
        page = seen.page
        assert page.locator("#legend").inner_text() == "water 100 %"
        land = (600, 600)
        _, _, half = of(page, folder, *land)
        page.get_by_role("slider", name="Opacity").fill("1")
        page.wait_for_timeout(300)
        assert of(page, folder, *land) == [0, 0, 255]
        assert half < 200
        page.get_by_role("checkbox", name="Raster").uncheck()
        page.wait_for_timeout(300)
        assert of(page, folder, *land)[2] < 60
        page.wait_for_url(re.compile("raster=0&opacity=1"))


def class_map(path: Path) -> Path:
    """All water."""
    profile: dict[str, Any] = {"width": 900, "height": 700, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", "GTiff", nodata=255, **profile) as dataset:
        dataset.write(np.full((1, 700, 900), 3, np.uint8))
        dataset.write_colormap(1, {3: (0, 0, 255, 255)})
        dataset.update_tags(1, CLASS_3="water")
    return path
