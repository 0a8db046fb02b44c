"""The report in a real browser: nothing missing, nothing overlapping, usable by keyboard, readable in the dark."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import report_fixture
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from neumix.report import build

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
WIDTHS = (1280, 1220, 768, 360)
"""Wide, the narrowest at which the scoreboard is still a table, a tablet and a telephone."""

pytestmark = pytest.mark.skipif(BROWSER is None or DRIVER is None, reason="no chromium or no chromedriver on the PATH")

BOXES = """
const visible = (element) => element.checkVisibility() && element.getClientRects().length;
return arguments[0].map((selector) => [...document.querySelectorAll(selector)].filter(visible).map((element) => {
  const box = element.getBoundingClientRect();
  const name = element.id || element.textContent.trim().slice(0, 40);
  return [name, box.left, box.top + scrollY, box.right, box.bottom + scrollY];
}));
"""
SIBLINGS = [
    ".tile",
    ".bar li",
    ".bar ul, .theme",
    ".filters > *",
    "main > section",
    ".item",
    ".item-text, .item-media",
    ".panel",
    ".deviation",
    ".run",
    "#scores thead th",
    "#scores > tbody",
    ".badge, .budget span, .fold summary",
    "#scores .id a, #scores tr:first-child > td:not(.space), .fold summary",
    ".panel:first-of-type svg text",
]
# Text that is wider than its cell runs into its neighbour without changing the cell's box.
SPILLS = """
const clipped = (element) => element.closest(".scroll, .bar ul, .visually-hidden, select");
return [...document.querySelectorAll("main *, header *")].filter((element) =>
  element.checkVisibility() && element instanceof HTMLElement && !clipped(element)
  && getComputedStyle(element).display !== "inline" && element.scrollWidth > element.clientWidth + 1,
).map((element) => `${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 40)}`);
"""
COLOURS = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function rgba(colour) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
}
function backdrop(element) {
  for (let node = element; node; node = node.parentElement) {
    const colour = rgba(getComputedStyle(node).backgroundColor);
    if (colour[3] > 250) return colour;
  }
  return [255, 255, 255, 255];
}
return arguments[0].flatMap((selector) => [...document.querySelectorAll(selector)]
  .filter((element) => element.checkVisibility()).slice(0, 40)
  .map((element) => [selector, rgba(getComputedStyle(element).color), backdrop(element)]));
"""
TEXTS = [
    *("body", ".lead", ".muted", ".eyebrow", ".sub", ".where", ".id a", ".budget span", ".tile-label", ".mark"),
    *(".badge-equivalent", ".badge-better", ".badge-worse", ".badge-inconclusive", ".badge-not_run", ".badge-cited"),
    *(".badge-faint", ".badge-not_judged", ".bar a", ".fold summary", ".facts dt", ".hashes dd", ".state", ".absent"),
    *(".filters span", ".filters select", ".theme", "p a"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    build(report_fixture.realistic(root / "results"), root / "report")
    return root / "report" / "index.html"


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield started
    started.quit()


@pytest.fixture
def show(driver, report):
    """Return a function that opens the report anew with a window size, a colour scheme and an address."""

    def open_report(width: int = 1280, scheme: str = "light", fragment: str = ""):
        emulate(driver, width, scheme)
        driver.get("about:blank")
        driver.get(report.as_uri() + fragment)
        return driver

    return open_report


def emulate(driver, width: int, scheme: str) -> None:
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def shown_rows(driver) -> list[str]:
    """Return the ids of the visible rows in their order."""
    rows = "[...document.querySelectorAll('tbody.number')].filter((row) => row.checkVisibility())"
    return driver.execute_script(f"return {rows}.map((row) => row.id)")


def open_folds(driver, every: int) -> None:
    """Open each record of a run, and that of every so-many-th number."""
    selector = f".number:nth-of-type({every}n) details, .run"
    driver.execute_script("document.querySelectorAll(arguments[0]).forEach((fold) => { fold.open = true; })", selector)


def keys(driver, *pressed: str) -> None:
    for key in pressed:
        ActionChains(driver).send_keys(key).perform()


def focused(driver) -> str:
    return driver.execute_script("return document.activeElement.textContent.trim()")


def tab_to(driver, wanted: str, limit: int = 60) -> None:
    """Press Tab until the element with that text has the focus."""
    seen = []
    for _ in range(limit):
        keys(driver, Keys.TAB)
        seen.append(focused(driver))
        if seen[-1] == wanted:
            return
    pytest.fail(f"'{wanted}' cannot be reached with Tab; the focus went over {seen}")


def overlapping(boxes: list[list]) -> Iterator[str]:
    """Yield the pairs of boxes that share more than one pixel in both directions."""
    ordered = sorted(boxes, key=lambda box: box[2])
    for index, (name, left, top, right, bottom) in enumerate(ordered):
        for other, left2, top2, right2, bottom2 in ordered[index + 1 :]:
            if top2 >= bottom:
                break
            if min(right, right2) - max(left, left2) > 1 and min(bottom, bottom2) - max(top, top2) > 1:
                yield f"'{name}' and '{other}'"


def contrast(foreground: list[int], background: list[int]) -> float:
    """Return the contrast ratio of two colours as the Web Content Accessibility Guidelines define it."""

    def luminance(colour: list[int]) -> float:
        parts = [value / 255 for value in colour[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(foreground), luminance(background)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_known_colours():
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    assert contrast([118, 118, 118], [255, 255, 255]) == pytest.approx(4.54, abs=0.01)


def test_nothing_is_missing(show):
    driver = show()
    driver.get_log("browser")
    driver.get_log("performance")
    show()
    images = driver.execute_script(
        "return [...document.images].map((image) => [image.src, image.complete && image.naturalWidth > 0])"
    )
    assert len(images) >= 10
    assert [source for source, loaded in images if not loaded] == []
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    assert [event for event in events if event["method"] == "Network.loadingFailed"] == []
    requested = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert len(requested) >= 4
    assert [url for url in requested if not url.startswith(("file:", "about:", "data:"))] == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("opened", [False, True], ids=["closed", "opened"])
def test_nothing_overflows_or_overlaps(show, width, opened):
    driver = show(width)
    if opened:
        open_folds(driver, every=7)
    root = "document.documentElement"
    assert driver.execute_script(f"return {root}.clientWidth") == width
    assert driver.execute_script(f"return {root}.scrollWidth") <= width
    assert driver.execute_script(SPILLS) == []
    for selector, boxes in zip(SIBLINGS, driver.execute_script(BOXES, SIBLINGS), strict=True):
        assert len(boxes) > 1, selector
        assert list(overlapping(boxes))[:5] == [], selector


def test_filters_and_address(show, report):
    driver = show()
    total = len(shown_rows(driver))
    Select(driver.find_element(By.NAME, "paper")).select_by_value("inclass")
    Select(driver.find_element(By.NAME, "verdict")).select_by_value("equivalent")
    driver.find_element(By.NAME, "q").send_keys("TABLE3 mixture")
    found = shown_rows(driver)
    assert 0 < len(found) < total
    assert all(name.startswith("inclass.table3") for name in found)
    shown = driver.find_element(By.ID, "shown")
    assert shown.text == f"Showing {len(found)} of {total} numbers"
    assert shown.get_attribute("aria-live") == "polite"
    assert len(driver.find_elements(By.CSS_SELECTOR, "tbody.group:not([hidden])")) == 1
    fragment = driver.current_url.removeprefix(report.as_uri())
    assert shown_rows(show(fragment=fragment)) == found
    driver.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    assert len(shown_rows(driver)) == total


def test_no_match_is_said(show):
    driver = show(fragment="#scoreboard?q=no+such+number")
    assert shown_rows(driver) == []
    assert driver.find_element(By.ID, "nothing").is_displayed()


def test_sorting_by_keyboard(show):
    driver = show()
    natural = shown_rows(driver)
    tab_to(driver, "Reproduced")
    keys(driver, Keys.ENTER)
    header = driver.find_element(By.CSS_SELECTOR, "th[data-key=reproduced]")
    script = "return [...document.querySelectorAll('tbody.number')].map((row) => row.rows[0].cells[4].dataset.sort)"
    values = driver.execute_script(script)
    numbers = [float(value) for value in values if value]
    assert header.get_attribute("aria-sort") == "ascending"
    assert numbers == sorted(numbers)
    assert values[len(numbers) :] == [""] * (len(values) - len(numbers))
    keys(driver, Keys.ENTER)
    values = driver.execute_script(script)
    assert header.get_attribute("aria-sort") == "descending"
    assert [float(value) for value in values[: len(numbers)]] == sorted(numbers, reverse=True)
    assert values[-1] == ""
    driver.find_element(By.CSS_SELECTOR, "button[type=reset]").send_keys(Keys.ENTER)
    assert shown_rows(driver) == natural
    assert header.get_attribute("aria-sort") is None


def test_fold_out_by_keyboard(show):
    driver = show(fragment="#scoreboard?q=inclass.table2.w1")
    tab_to(driver, "Record of inclass.table2.w1")
    fold = driver.find_element(By.CSS_SELECTOR, "[id='inclass.table2.w1'] details")
    assert not fold.get_property("open")
    keys(driver, Keys.ENTER)
    assert fold.get_property("open")
    assert "3f9c2a71d5e84b06a9f1c7d2e5b8034f6a7d9c10" in fold.text
    outline = driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_links_reach_what_is_filtered_out_or_folded(show):
    driver = show(fragment="#scoreboard?paper=cwm")
    driver.execute_script("location.hash = '#inclass.table2.w1'")
    row = driver.find_element(By.ID, "inclass.table2.w1")
    WebDriverWait(driver, 5).until(lambda _: row.is_displayed())
    assert 48 < row.rect["y"] - driver.execute_script("return scrollY") < 400
    driver.execute_script("location.hash = '#run-cwm.two_gaussians.main'")
    run = driver.find_element(By.ID, "run-cwm.two_gaussians.main")
    WebDriverWait(driver, 5).until(lambda _: run.get_property("open"))


def test_a_tile_selects_its_verdict(show):
    driver = show()
    driver.find_element(By.CSS_SELECTOR, "[data-show-verdict=worse]").send_keys(Keys.ENTER)
    found = {driver.find_element(By.ID, name).get_attribute("data-verdict") for name in shown_rows(driver)}
    assert found == {"worse"}
    assert driver.current_url.endswith("#scoreboard?verdict=worse")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(show, scheme):
    driver = show(scheme=scheme)
    open_folds(driver, every=9)
    measured = driver.execute_script(COLOURS, TEXTS)
    assert {selector for selector, _, _ in measured} == set(TEXTS)
    poor = {(selector, round(contrast(*pair), 2)) for selector, *pair in measured if contrast(*pair) < 4.5}
    assert poor == set()
    page = next(background for selector, _, background in measured if selector == "body")
    assert (max(page[:3]) < 60) == (scheme == "dark")


def test_theme_button_overrides_the_system(show):
    driver = show(scheme="light")
    background = "return getComputedStyle(document.body).backgroundColor"
    light = driver.execute_script(background)
    button = driver.find_element(By.ID, "theme")
    assert button.get_attribute("aria-label") == "Use the dark theme"
    button.click()
    assert driver.execute_script(background) != light
    show(scheme="light")
    assert driver.execute_script(background) != light
    driver.find_element(By.ID, "theme").click()
    assert driver.execute_script(background) == light
    show(scheme="dark")
    assert driver.execute_script(background) != light


def test_without_scripts(show):
    driver = show()
    total = len(shown_rows(driver))
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show()
        assert len(shown_rows(driver)) == total
        assert not driver.find_element(By.ID, "filters").is_displayed()
        assert not driver.find_element(By.ID, "theme").is_displayed()
        assert driver.find_elements(By.CSS_SELECTOR, "th button") == []
        summary = driver.find_element(By.CSS_SELECTOR, "[id='inclass.table2.w1'] summary")
        summary.send_keys(Keys.ENTER)
        assert driver.find_element(By.CSS_SELECTOR, "[id='inclass.table2.w1'] details").get_property("open")
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_prints(show):
    """The printed page keeps every number and drops the controls."""
    driver = show()
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    try:
        assert not driver.find_element(By.CSS_SELECTOR, ".bar").is_displayed()
        assert not driver.find_element(By.ID, "filters").is_displayed()
        assert driver.find_element(By.ID, "inclass.table2.w1").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.fixture
def page(driver, report):
    """Return a function that opens the page of a number or item with a window size and a colour scheme."""

    def open_page(id_: str, width: int = 1280, scheme: str = "light"):
        emulate(driver, width, scheme)
        driver.get("about:blank")
        driver.get((report.parent / "show" / f"{id_}.html").as_uri())
        return driver

    return open_page


def test_a_number_leads_to_its_chain_and_back_by_keyboard(show):
    driver = show(fragment="#scoreboard?q=inclass.table2.w1")
    link = driver.find_element(By.CSS_SELECTOR, "[id='inclass.table2.w1'] a.value")
    tab_to(driver, link.text)
    keys(driver, Keys.ENTER)
    assert driver.current_url.endswith("/show/inclass.table2.w1.html")
    assert driver.find_element(By.TAG_NAME, "h1").text == "inclass.table2.w1"
    tab_to(driver, "Parameters")
    details = driver.find_element(By.XPATH, "//details[summary[text()='Parameters']]")
    assert not details.get_property("open")
    keys(driver, Keys.ENTER)
    assert details.get_property("open")
    assert driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle") != "none"
    tab_to(driver, "Back to the report")
    keys(driver, Keys.ENTER)
    WebDriverWait(driver, 5).until(lambda _: driver.current_url.endswith("/index.html#inclass.table2.w1"))
    assert driver.find_element(By.ID, "inclass.table2.w1").is_displayed()


def test_an_item_leads_to_its_chain_without_scripts(driver, show):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show()
        driver.find_element(By.CSS_SELECTOR, "[id='item-inclass.table1'] a[href^='show/']").send_keys(Keys.ENTER)
        assert driver.current_url.endswith("/show/inclass.table1.html")
        driver.find_element(By.XPATH, "//summary[starts-with(text(), 'Code')]").click()
        assert "src/neumix/training.py" in driver.find_element(By.TAG_NAME, "main").text
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_of_a_chain_overflows(page, width):
    driver = page("cwm.table1.gmm_loglik", width)
    driver.execute_script("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert len(driver.find_elements(By.CSS_SELECTOR, ".chain > li")) == 2
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.execute_script(SPILLS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_a_chain(page, scheme):
    driver = page("cwm.table1.gmm_loglik", scheme=scheme)
    texts = ["body", ".eyebrow", ".muted", ".facts dt", ".hashes dd", ".show summary", ".more a", ".findings dt"]
    measured = driver.execute_script(COLOURS, texts)
    assert {selector for selector, _, _ in measured} == set(texts)
    assert {(selector, round(contrast(*pair), 2)) for selector, *pair in measured if contrast(*pair) < 4.5} == set()


SCREENS = {"light": (1280, "light"), "dark": (1280, "dark"), "narrow": (360, "light")}


@pytest.mark.parametrize("name", SCREENS)
def test_screenshots(show, tmp_path, name):
    folder = Path(os.environ.get("NEUMIX_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    driver = show(*SCREENS[name])
    for place in ("top", "scoreboard", "paper-inclass", "curves-cwm", "verdicts"):
        driver.execute_script("document.getElementById(arguments[0]).scrollIntoView()", place)
        target = folder / f"report-{name}-{place}.png"
        assert driver.save_screenshot(str(target))
        assert target.stat().st_size > 5000


@pytest.mark.parametrize("name", SCREENS)
def test_screenshots_of_a_chain(page, tmp_path, name):
    folder = Path(os.environ.get("NEUMIX_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"chain-{name}.png"
    assert page("cwm.table1.gmm_loglik", *SCREENS[name]).save_screenshot(str(target))
    assert target.stat().st_size > 5000
