"""The report in a real browser, as a file on disk: nothing is fetched, and all of it works."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser
from extras import needs

By = needs("selenium.webdriver.common.by").By
Keys = needs("selenium.webdriver.common.keys").Keys
WebDriverWait = needs("selenium.webdriver.support.ui").WebDriverWait

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def _browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(_browser: Browser, report: Path) -> Browser:
    _browser.requests()
    _browser.console()
    _browser.open(report)
    return _browser


def one(browser: Browser, selector: str) -> Any:
    return browser.driver.find_element(By.CSS_SELECTOR, selector)


def every(browser: Browser, selector: str) -> list[Any]:
    return browser.driver.find_elements(By.CSS_SELECTOR, selector)


def test_no_console_message_and_no_request(browser: Browser, report: Path) -> None:
    for details in every(browser, "details"):
        browser.run("arguments[0].open = true", details)
    browser.run("scrollTo(0, document.body.scrollHeight)")
    assert browser.console() == []
    asked = browser.requests()
    assert report.as_uri() in asked
    assert [url for url in asked if url != report.as_uri() and not url.startswith("data:")] == []


def test_the_policy_is_in_force(browser: Browser) -> None:
    browser.run("""
        const script = document.createElement("script");
        script.textContent = "document.title = 'broken'";
        document.body.append(script);
        const image = new Image();
        image.src = "https://example.org/pixel.png";
        document.body.append(image);
    """)
    assert browser.driver.title != "broken"
    WebDriverWait(browser.driver, 10).until(lambda _driver: browser.console())


@pytest.mark.slow
def test_every_figure_is_drawn(browser: Browser) -> None:
    figures = every(browser, "figure")
    assert len(figures) >= 5
    for figure in figures:
        name = figure.get_attribute("id")
        svg = figure.find_element(By.CSS_SELECTOR, "svg")
        assert svg.rect["width"] > 300, name
        _, _, width, height = map(float, svg.get_dom_attribute("viewBox").split())
        assert svg.rect["height"] == pytest.approx(svg.rect["width"] * height / width, rel=0.02), name
        boxes = browser.run(
            "return [...arguments[0].querySelectorAll('path, use, image, rect')]"
            ".map((each) => each.getBoundingClientRect()).filter((box) => box.width + box.height > 0).length",
            svg,
        )
        assert boxes > 20, name
        colours = np.unique(browser.picture(svg).reshape(-1, 3), axis=0)
        assert len(colours) > 20, name


def column(browser: Browser, table: str, place: int) -> list[str]:
    return [cell.get_attribute("textContent") for cell in every(browser, f"{table} tbody tr > :nth-child({place})")]


def sort_keys(browser: Browser, table: str, place: int) -> list[float]:
    return browser.run(
        "return [...document.querySelectorAll(arguments[0])].filter((cell) => cell.dataset.sort)"
        ".map((cell) => Number(cell.dataset.sort))",
        f"{table} tbody tr > :nth-child({place})",
    )


def announced(browser: Browser, text: str) -> bool:
    """Whether a screen reader is told so, now or within seconds."""
    return bool(
        WebDriverWait(browser.driver, 5).until(lambda _: one(browser, "#status").get_attribute("textContent") == text)
    )


def test_sorting_by_mouse_and_by_keyboard(browser: Browser) -> None:
    table = "#s1 .verdicts table"
    heading = one(browser, f"{table} th:nth-child(2)")
    button = heading.find_element(By.TAG_NAME, "button")
    before = column(browser, table, 1)
    button.click()
    assert heading.get_attribute("aria-sort") == "ascending"
    upwards = sort_keys(browser, table, 2)
    assert upwards == sorted(upwards)
    button.send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "descending"
    assert sort_keys(browser, table, 2) == sorted(upwards, reverse=True)
    assert sorted(column(browser, table, 1)) == sorted(before)
    other = one(browser, f"{table} th:nth-child(1) button")
    other.send_keys(Keys.SPACE)
    names = column(browser, table, 1)
    assert [name[:2] for name in names] == sorted((name[:2] for name in before), key=str.casefold)
    assert heading.get_attribute("aria-sort") is None
    assert announced(browser, "Sorted by network, ascending")


def test_numbers_are_sorted_as_numbers_and_gaps_come_last(browser: Browser) -> None:
    table = "#s1-comparisons ~ .table table"
    for place in (3, 8):
        button = one(browser, f"{table} th:nth-child({place}) button")
        for reverse in (False, True):
            button.click()
            keys = sort_keys(browser, table, place)
            assert keys == sorted(keys, reverse=reverse)
            texts = column(browser, table, place)
            assert "–" not in texts[: len(keys)]


def test_copying(browser: Browser) -> None:
    browser.run("""
        window.field = document.createElement("textarea");
        document.body.append(window.field);
    """)
    group = one(browser, "#s1 .verdicts .copy")
    texts = json.loads(one(browser, f"#{group.get_attribute('data-payload')}").get_attribute("textContent"))
    for name in ("CSV", "Markdown", "LaTeX"):
        group.find_element(By.CSS_SELECTOR, f"[data-format={name}]").send_keys(Keys.ENTER)
        assert announced(browser, f"Copied as {name}")
        browser.run("window.field.value = ''")
        browser.driver.find_elements(By.TAG_NAME, "textarea")[-1].send_keys(Keys.CONTROL, "v")
        pasted = browser.run("return window.field.value")
        assert pasted == texts[name].replace("\r\n", "\n")
        assert "accuracy" in pasted


def test_copying_without_the_clipboard_interface(browser: Browser) -> None:
    browser.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    test_copying(browser)


def test_a_verdict_says_how_it_came_about(browser: Browser) -> None:
    button = one(browser, "#s1 .verdicts .why")
    button.send_keys(Keys.ENTER)
    shown = one(browser, f"#{button.get_attribute('popovertarget')}")
    assert shown.is_displayed()
    assert "95 % interval" in shown.text
    shown.find_element(By.TAG_NAME, "a").click()
    assert not shown.is_displayed()
    # The address changes first, what it leads to is opened after.
    (opened,) = WebDriverWait(browser.driver, 10).until(lambda _driver: every(browser, "details.record[open]"))
    assert "SHA-256" in opened.text
    button.send_keys(Keys.ENTER)
    one(browser, "body").send_keys(Keys.ESCAPE)
    assert not shown.is_displayed()


@pytest.mark.parametrize("width", [390, 768, 1200])
def test_nothing_sticks_out(browser: Browser, width: int) -> None:
    browser.show_as(width=width, scheme="light")
    for details in every(browser, "details"):
        browser.run("arguments[0].open = true", details)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    outside = browser.run(
        "return [...document.body.querySelectorAll('*')]"
        ".filter((each) => !each.closest('.scroll, .visually-hidden, .skip, [popover]'))"
        ".filter((each) => each.getBoundingClientRect().right > arguments[0] + 0.5)"
        ".map((each) => each.outerHTML.slice(0, 99))",
        width,
    )
    assert outside == []


BOX = "const box = arguments[0].getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]"


def test_contents_are_beside_the_page_on_wide_screens_and_stay_in_view(browser: Browser) -> None:
    contents, main = one(browser, "nav.contents"), one(browser, "main")
    assert browser.run(BOX, contents)[2] <= browser.run(BOX, main)[0]
    links = contents.find_elements(By.TAG_NAME, "a")
    assert [link.is_displayed() for link in links] == [True] * len(links)
    links[-1].send_keys(Keys.ENTER)
    assert browser.run("return scrollY") > 900
    _, top, _, bottom = browser.run(BOX, contents)
    assert 0 <= top < bottom <= 900
    assert 0 <= browser.run(BOX, one(browser, "#s1-records"))[1] <= 900


@pytest.mark.parametrize("width", [390, 1000])
def test_contents_are_above_the_answer_on_narrow_screens(browser: Browser, width: int) -> None:
    browser.show_as(width=width, scheme="light")
    left, top, right, bottom = browser.run(BOX, one(browser, "nav.contents"))
    assert 0 <= left < right <= width
    assert 0 < top < bottom <= browser.run(BOX, one(browser, "main"))[1]
    shown = [link.text for link in every(browser, "nav.contents a") if link.is_displayed()]
    assert shown == ["Answer", "Figures", "All comparisons", "Records"]


@pytest.mark.parametrize("width", [390, 1200])
def test_wide_tables_scroll_within_themselves(browser: Browser, width: int) -> None:
    browser.show_as(width=width, scheme="light")
    frames = every(browser, ".table .scroll")
    boxes = [browser.run(BOX, frame) for frame in frames if frame.is_displayed()]
    assert all(0 <= left < right <= width for left, _, right, _ in boxes)
    wide = one(browser, ".verdicts .scroll")
    before = browser.run("arguments[0].scrollLeft = 1e4; return arguments[0].scrollLeft", wide)
    assert before > 0
    # The names of the networks stay in view.
    assert browser.run(BOX, one(browser, ".verdicts tbody th"))[0] == pytest.approx(browser.run(BOX, wide)[0], abs=1)
    assert browser.run("return scrollX") == 0


def test_dark_is_dark(browser: Browser) -> None:
    light = browser.picture(one(browser, "figure svg")).mean()
    browser.show_as(width=1200, scheme="dark")
    assert light > 200
    assert browser.picture(one(browser, "figure svg")).mean() < 80


@pytest.mark.parametrize(("width", "scheme"), [pytest.param(1200, "light", marks=pytest.mark.slow), (390, "dark")])
def test_accessibility(browser: Browser, width: int, scheme: str) -> None:
    browser.show_as(width=width, scheme=scheme)
    for details in every(browser, "details"):
        browser.run("arguments[0].open = true", details)
    browser.run(files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
    # Figures are images, which nothing reads the parts of.
    found = browser.driver.execute_async_script(
        "axe.run({exclude: ['figure svg > g']}).then(arguments[arguments.length - 1])"
    )
    assert len(found["passes"]) > 20
    problems = [
        (each["id"], each["impact"], [node["html"][:200] for node in each["nodes"][:3]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical", "moderate")
    ]
    assert problems == []


def test_the_keyboard_reaches_everything_that_scrolls(browser: Browser) -> None:
    one(browser, "body").send_keys(Keys.TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    stuck = browser.run(
        "return [...document.querySelectorAll('*')].filter((each) => each.scrollWidth > each.clientWidth + 1"
        " && getComputedStyle(each).overflowX === 'auto' && each.tabIndex < 0)"
        ".map((each) => each.outerHTML.slice(0, 99))"
    )
    assert stuck == []


@pytest.mark.slow
def test_printing(browser: Browser) -> None:
    printed = base64.b64decode(browser.command("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 2
    browser.command("Emulation.setEmulatedMedia", media="print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("return [...document.querySelectorAll('details:not(.long)')].every((each) => each.open)")
    assert not one(browser, ".copy").is_displayed()
    assert not one(browser, "nav.contents").is_displayed()
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert not browser.run("return [...document.querySelectorAll('details')].some((each) => each.open)")
    browser.command("Emulation.setEmulatedMedia", media="")
