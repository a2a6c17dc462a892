"""The HTML report in a real browser: search, sort, hover, no errors, and good speed with thousands of jobs."""

import itertools
from collections.abc import Iterator
from pathlib import Path
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from trioflow import Job, Scheduler, Trace
from trioflow.testing import run_virtual
from trioflow.view import save
from ...bodies import fail, nap
from .browser import Browser
from .scenarios import NASTY, everything

PATH, KIND, STATE, START, WAIT, TIME, ATTEMPTS, LANE, EXCEPTION = range(9)
"""The places in a row of the page's data."""
NUMBERS = {START, WAIT, TIME, ATTEMPTS}
SHOWN = [PATH, KIND, STATE, START, WAIT, TIME, ATTEMPTS, EXCEPTION]
"""The columns of the table of `everything`; lanes are in the details only."""


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A browser that must have logged no message by the end of the test."""
    chromium.console_messages()
    yield chromium
    assert chromium.console_messages() == []


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of a complete scenario, of one with hostile labels, and of a large one."""
    home = tmp_path_factory.mktemp("reports")
    write(everything(), home / "everything.html")
    write(
        Scheduler(*(Job(fail, 1, OSError(x), label=x) for x in NASTY), label=NASTY[1]),
        home / "nasty.html",
    )
    jobs = [Job(nap, 1 + place % 7, label=f"job {place}") for place in range(1000)]
    write(Scheduler(*jobs, jobs_window=40), home / "1000.html")
    return home


def write(scheduler: Scheduler, path: Path) -> None:
    trace = Trace()
    run_virtual(lambda: scheduler.co_run(instruments=[trace]))
    save(trace, path)


def column(browser: Browser, number: int) -> list[str]:
    rows = "[...document.querySelectorAll('tbody tr[data-number]')]"
    texts = (
        f"{rows}.map(row => row.children[arguments[0]].firstChild?.textContent ?? '')"
    )
    found: list[str] = browser.evaluate(texts, number)
    return found


def open_whole(browser: Browser, page: Path) -> None:
    """Open a page with its table high enough for all rows."""
    browser.open(page)
    browser.driver.execute_script(
        "document.getElementById('table').style.maxHeight = 'none'"
    )
    browser.next_frame()


def type_into_search(browser: Browser, text: str) -> None:
    box = browser.first("#search")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.BACKSPACE, text)
    browser.next_frame()


def bar(browser: Browser, path: str) -> WebElement:
    find = "[...document.querySelectorAll('g.job')].find((one) => one.textContent.startsWith(arguments[0]))"
    found: WebElement = browser.evaluate(find, path)
    return found


def test_search_finds_in_path_kind_state_and_exception(
    browser: Browser, pages: Path
) -> None:
    """The search finds rows in which all words occur, in any order and case, and shows the number of matches."""
    open_whole(browser, pages / "everything.html")
    everyone = browser.first("#shown").text
    type_into_search(browser, "BUILD test")
    assert set(column(browser, PATH)) == {f"build/tests/test {n}" for n in range(4)} | {
        "build/tests"
    }
    assert (
        browser.first("#shown").text == f"4 of {everyone.partition(',')[0]}"
    )  # a scheduler does not count
    type_into_search(browser, "broken oserror")
    assert column(browser, PATH) == ["fetch 5"]
    type_into_search(browser, "service")
    assert column(browser, PATH) == ["database"]
    type_into_search(browser, "no such thing")
    assert column(browser, PATH) == []
    type_into_search(browser, "")
    assert browser.first("#shown").text == everyone


def test_state_buttons_filter_the_table(browser: Browser, pages: Path) -> None:
    open_whole(browser, pages / "everything.html")
    for name in ("blocked", "skipped"):
        browser.first(f"#states button[data-state={name}]").click()
    browser.next_frame()
    assert sorted(column(browser, STATE)) == ["blocked", "skipped"]
    for name in ("blocked", "skipped", "succeeded"):
        browser.first(f"#states button[data-state={name}]").click()
    browser.next_frame()
    pressed = browser.first('#states button[aria-pressed="true"]').text
    assert pressed == f"{len(column(browser, STATE))} succeeded"


def test_each_column_sorts_both_ways(browser: Browser, pages: Path) -> None:
    """Each column of the table sorts both ways, numbers as numbers; empty cells come last both ways."""
    open_whole(browser, pages / "everything.html")
    rows = browser.evaluate(
        "JSON.parse(document.getElementById('data').textContent).rows"
    )
    for place, (number, clicks) in enumerate(
        zip(SHOWN, browser.evaluate(TWO_CLICKS_AT_EACH_HEAD), strict=True)
    ):
        orders = []
        for direction, (heads, order) in zip(
            ("ascending", "descending"), clicks, strict=True
        ):
            assert [head for head in enumerate(heads) if head[1]] == [
                (place, direction)
            ]
            cells = [rows[place][number] for place in order]
            values = [cell[0] if isinstance(cell, list) else cell for cell in cells]
            there = [value not in (None, "") for value in values]
            assert there == sorted(there, reverse=True)
            orders.append([value for value in values if value not in (None, "")])
        up, down = orders
        if number in NUMBERS:
            assert up == sorted(up)
            assert down == sorted(down, reverse=True)
        assert sorted(up) == sorted(down)
        assert [up[0], up[-1]] == [down[-1], down[0]]


TWO_CLICKS_AT_EACH_HEAD = """[...document.querySelectorAll('#table th button')].map((button) => [1, 2].map(() => {
    button.click();
    const heads = [...document.querySelectorAll('#table th')].map((head) => head.getAttribute('aria-sort'));
    return [heads, [...document.querySelectorAll('tbody tr[data-number]')].map((row) => Number(row.dataset.number))];
}))"""
"""For each column and click: what the heads say about the order, and the numbers of the rows."""


def test_hovering_over_a_bar_shows_a_tooltip(browser: Browser, pages: Path) -> None:
    """The tooltip of a bar appears when the mouse is on the bar, and vanishes when it moves away."""
    browser.open(pages / "everything.html", height=2000)
    tip = browser.first("#tip")
    assert not tip.is_displayed()
    ActionChains(browser.driver).move_to_element(bar(browser, "fetch 5")).perform()
    assert tip.is_displayed()
    assert tip.text.splitlines()[0] == "fetch 5"
    assert "OSError: broken" in tip.text
    ActionChains(browser.driver).move_to_element(browser.first("h1")).perform()
    assert not tip.is_displayed()


def test_a_row_marks_its_bar_and_a_bar_shows_its_row(
    browser: Browser, pages: Path
) -> None:
    """The mouse on a row marks the job's bar; a click on a bar shows the job's row, even if a search had hidden it."""
    browser.open(pages / "everything.html", height=2000)
    row = browser.all("tbody tr[data-number]")[4]
    ActionChains(browser.driver).move_to_element(row).perform()
    (hot,) = browser.all("g.job.hot")
    assert hot.get_attribute("data-number") == row.get_attribute("data-number")
    type_into_search(browser, "nothing of the kind")
    ActionChains(browser.driver).click(bar(browser, "parse 7")).perform()
    browser.next_frame()
    (chosen,) = browser.all("tr.chosen")
    assert chosen.text.startswith("parse 7")


def test_only_the_visible_rows_of_a_thousand_jobs_are_rendered(
    browser: Browser, pages: Path
) -> None:
    """Of a thousand rows, only the visible ones are rendered, and the others when the user scrolls to them. Text with
    numbers is sorted in natural order, in which "job 2" comes before "job 10"."""
    browser.open(pages / "1000.html")
    assert browser.first("#shown").text == "1000 jobs"
    assert browser.evaluate("document.querySelectorAll('tbody tr').length") < 70
    assert browser.evaluate("document.querySelectorAll('*').length") < 10_000
    seen = set()
    for part in (0, 0.25, 0.5, 0.75, 1):
        browser.driver.execute_script(
            "const box = document.getElementById('table'); box.scrollTop = arguments[0] * box.scrollHeight",
            part,
        )
        browser.next_frame()
        assert browser.evaluate("document.querySelectorAll('tbody tr').length") < 90
        seen |= set(column(browser, PATH))
    assert "job 999" in seen
    assert len(seen) > 100
    type_into_search(browser, "job 997")
    assert column(browser, PATH) == ["job 997"]
    type_into_search(browser, "")
    browser.all("#table th button")[PATH].click()
    browser.next_frame()
    assert column(browser, PATH)[:12] == [f"job {number}" for number in range(12)]


def test_hostile_labels_stay_text(browser: Browser, pages: Path) -> None:
    """In a browser, labels with HTML and scripts run and load nothing, and are readable."""
    open_whole(browser, pages / "nasty.html")
    assert browser.evaluate("document.title") == NASTY[1]
    assert browser.first("h1 bdi").text == NASTY[1]
    assert browser.evaluate("document.images.length") == 0
    shown = column(browser, PATH)
    assert NASTY[0].replace("/", r"\/") in shown
    assert "\\x1b[31m" in shown[4]
    for one in browser.all("g.job")[:3]:
        ActionChains(browser.driver).move_to_element(one).perform()
    assert browser.evaluate("document.images.length") == 0


def test_the_report_fits_every_width(browser: Browser, pages: Path) -> None:
    """At any width, the page itself never scrolls sideways, and text has contrast in both colour schemes."""
    browser.open(pages / "nasty.html")
    for width, dark in itertools.product((360, 500, 1400), (False, True)):
        browser.shape(width, dark=dark)
        browser.next_frame()
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        ground = channels(
            browser.evaluate("getComputedStyle(document.body).backgroundColor")
        )
        ink = channels(browser.evaluate("getComputedStyle(document.body).color"))
        axis = channels(
            browser.evaluate(
                "getComputedStyle(document.querySelector('.timeline .tick')).fill"
            )
        )
        assert (ground < 60) is dark
        assert abs(ground - ink) > 120
        assert abs(ground - axis) > 120


def channels(colour: str) -> float:
    """Return how light a colour is, about, from 0 to 255."""
    red, green, blue = (
        float(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")[:3]
    )
    return (red + green + blue) / 3


def test_pictures_wider_than_the_window_have_a_hint(
    browser: Browser, pages: Path
) -> None:
    """In a narrow window, a hint shows that the timeline continues sideways; in a wide one the hint is missing."""
    browser.open(pages / "everything.html")
    for width in (390, 1400):
        browser.shape(width, dark=False)
        browser.next_frame()
        hints = [hint.is_displayed() for hint in browser.all(".hint")]
        assert len(hints) == 3  # for the graph, the timeline, and the families of jobs
        assert hints[1:] == [width == 390, False]  # the table has fewer columns there


def test_a_reloaded_page_keeps_its_scroll_position(
    browser: Browser, pages: Path
) -> None:
    """A reloaded report keeps its scroll position: the hidden details at the upper edge must not move the page."""
    browser.open(pages / "everything.html", height=600)
    browser.driver.execute_script("scrollTo(0, 900)")
    browser.driver.refresh()
    assert browser.evaluate("Math.round(scrollY)") == 900


def test_the_fragment_of_an_address_opens_a_job(browser: Browser, pages: Path) -> None:
    browser.open(pages / "everything.html", "#job=build%2Ftests%2Ftest%201")
    assert browser.first("#detail h3").text == "build/tests/test 1"
    assert browser.first("tr.chosen").text.startswith("build/tests/test 1")
    browser.driver.execute_script("location.hash = '#job=parse%202'")
    browser.next_frame()
    assert (
        "waited 8 s for a slot, until parse 0 released it"
        in browser.first("#detail .waits").text
    )
    browser.first("#detail dd a").click()
    browser.next_frame()
    assert browser.first("#detail h3").text == "fetch 2"
    assert browser.evaluate("location.hash") == "#job=fetch%202"


def test_a_click_on_a_box_of_the_graph_shows_its_job(
    browser: Browser, pages: Path
) -> None:
    browser.open(pages / "everything.html")
    for path in ("parse 2", "build"):
        link = browser.first(f"#graph a[href='#job={path.replace(' ', '%20')}'] text")
        for _ in range(2):
            link.click()
            browser.next_frame()
            assert browser.first("#detail h3").text == path
            top = browser.evaluate(
                "document.getElementById('detail').getBoundingClientRect().top"
            )
            assert 0 <= top < browser.evaluate("innerHeight")


def test_the_timeline_dims_bars_without_a_match_and_can_be_zoomed(
    browser: Browser, pages: Path
) -> None:
    browser.open(pages / "everything.html")
    type_into_search(browser, "parse 1")
    numbers = ".map((one) => Number(one.dataset.number))"
    clear = browser.evaluate(
        "[...document.querySelectorAll('#timeline g.job:not(.dim)')]" + numbers
    )
    assert {*clear} == {
        *browser.evaluate(
            "[...document.querySelectorAll('tbody tr[data-number]')]" + numbers
        )
    }
    width = browser.evaluate("document.querySelector('svg.timeline').clientWidth")
    for _ in range(2):
        browser.first("#zoom .in").click()
    assert browser.evaluate(
        "document.querySelector('svg.timeline').clientWidth"
    ) == pytest.approx(4 * width, rel=0.01)
    assert (
        browser.evaluate("document.querySelector('#timeline .scroll').scrollLeft")
        > width
    )
    for _ in range(2):
        browser.first("#zoom .out").click()
    assert (
        browser.evaluate("document.querySelector('svg.timeline').clientWidth") == width
    )


def test_a_printed_report_is_complete(browser: Browser, pages: Path) -> None:
    """In a printed report, tables and pictures are not cut, folded sections are open, and nothing is too wide."""
    browser.open(pages / "everything.html", width=700, dark=True)
    rows = browser.evaluate("document.querySelectorAll('tbody tr[data-number]').length")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    all_rows = browser.evaluate(
        "JSON.parse(document.getElementById('data').textContent).rows.length"
    )
    shown_rows = browser.evaluate(
        "document.querySelectorAll('#jobs tbody tr[data-number]').length"
    )
    assert shown_rows == all_rows - 2  # the two forever jobs are listed apart
    assert (
        browser.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    )
    assert browser.evaluate("document.documentElement.scrollWidth") <= 700
    heads = "[...document.querySelectorAll('th button')].map(button => getComputedStyle(button).display)"
    assert set(browser.evaluate(heads)) == {
        "contents"
    }  # Chromium repeats a table's head on each sheet, but not the buttons in it
    cut = "[...document.querySelectorAll('.scroll')].filter((one) => one.scrollHeight > one.clientHeight + 20).length"
    assert browser.evaluate(cut) == 0
    pieces = browser.evaluate(ON_ONE_SHEET)
    assert len(pieces) == 2  # the graph and the timeline
    for height, inside, after in pieces:
        assert height < 718  # an A4 sheet on its side, within margins of 10 mm
        assert inside == "avoid"
        assert after == ["avoid", "avoid"]
    assert (
        channels(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        > 200
    )
    browser.driver.execute_script("dispatchEvent(new Event('afterprint'))")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.next_frame()
    assert (
        browser.evaluate("document.querySelectorAll('tbody tr[data-number]').length")
        <= rows
    )


ON_ONE_SHEET = """[...document.querySelectorAll('section:has(.card.scroll svg)')].map((section) => {
    const [head, picture] = [section.querySelector('h2'), section.querySelector('.card.scroll:has(svg)')];
    const words = [head, head.nextElementSibling].map((word) => getComputedStyle(word).breakAfter);
    const height = picture.getBoundingClientRect().bottom - head.getBoundingClientRect().top;
    return [height, getComputedStyle(picture).breakInside, words];
})"""
"""Of each picture: its height with its heading, whether it may be broken, and whether its heading may stand alone."""
