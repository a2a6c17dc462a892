"""The page of a run in progress in a real browser: it moves, steers from each tab, and stays when the run has ended."""

import contextlib
import importlib
import itertools
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
import anyio
import pytest
from selenium.common.exceptions import (
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from trioflow import Answer, CommandJob, Job, Retry, Scheduler, ThreadJob
from trioflow.view.look import _client
from trioflow.view.look._page import PageHandler, PageServer
from ...bodies import at_once, fail, nothing
from ...places import PATIENCE
from ...pythons import Python
from ..trace.browser import Browser
from .pages import PROGRAM, program, serving

pytestmark = pytest.mark.usefixtures("answers")

NASTY = "<img src=x onerror='document.title=1'><script>document.title=2</script>"


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """A browser without the page of the test before, which would go on asking, and without messages of it."""
    chromium.shape(1200, dark=False)
    chromium.driver.get("about:blank")
    chromium.console_messages()
    return chromium


def until(browser: Browser, is_true: Callable[[], Any]) -> None:
    """Wait until the page shows something. The page may replace an element between two questions about it."""
    wait = WebDriverWait(browser.driver, 20, 0.05, [StaleElementReferenceException])
    try:
        wait.until(lambda _: is_true())
    except TimeoutException:
        messages = browser.console_messages()
        shown = text(browser, "body")
        pytest.fail(f"it is not so; console: {messages}; the page shows:\n{shown}")


def text(browser: Browser, css: str) -> str:
    """Return the text of the first element that a selector finds, in one question; "None" if there is none yet."""
    return str(
        browser.evaluate("document.querySelector(arguments[0])?.innerText", css)
    ).strip()


def click(browser: Browser, css: str) -> None:
    press(browser, lambda: browser.first(css))


def arm(browser: Browser, css: str, question: str) -> None:
    """Click a button until it asks. While its row has just moved, a click is for what was there before."""
    until(browser, lambda: browser.first(css).click() or text(browser, css) == question)


def press(browser: Browser, find: Callable[[], WebElement]) -> None:
    """Click an element that has its place: a click goes to coordinates, and what moves meanwhile does not get it."""
    place = None

    def is_pressed() -> bool:
        nonlocal place
        element = find()
        before = place
        place = element.rect
        if place != before:
            return False
        element.click()
        return True

    until(browser, is_pressed)


def status(browser: Browser) -> str:
    return f"{text(browser, '#phase')} {text(browser, '#settled')}"


@contextmanager
def watched(*jobs: Any, **options: Any) -> Iterator[PageServer]:
    """Run jobs in another thread, and serve their page."""
    begun = threading.Event()
    scheduler = Scheduler(ThreadJob(begun.set), *jobs, label=NASTY, **options)
    running = threading.Thread(target=scheduler.run, daemon=True)
    running.start()
    assert begun.wait(PATIENCE)
    with serving() as server:
        following = threading.Thread(target=server.page.follow, daemon=True)
        following.start()
        try:
            yield server
        finally:
            with contextlib.suppress(_client.NoAnswer):
                _client.ask(os.getpid(), {"do": "cancel"})
            following.join()
    running.join()


def row(browser: Browser, label: str) -> WebElement:
    find = (
        "[...document.querySelectorAll('#running li:not(.gone)')]"
        ".find((row) => row.innerText.includes(arguments[0]))"
    )
    until(browser, lambda: browser.evaluate(find, label))
    found: WebElement = browser.evaluate(find, label)
    return found


def point(browser: Browser, element: WebElement) -> ActionChains:
    ActionChains(browser.driver).move_to_element(element).perform()
    return ActionChains(browser.driver)


def short_jobs() -> list[Job[None]]:
    return [
        Job(anyio.sleep, 0.2 + 0.07 * (number % 11), label=f"step {number}")
        for number in range(300)
    ]


def test_a_page_moves_and_steers_in_two_tabs(browser: Browser) -> None:
    """A pause in one tab is seen in another, which resumes the run; both show its end, and can be saved."""
    release = threading.Event()
    first = ThreadJob(release.wait, label="first")
    with watched(first, Job(nothing, label="second", required=first)) as server:
        browser.driver.get(server.url)
        until(browser, lambda: status(browser) == "runs 1 of 3")
        assert text(browser, "#running li bdi") == "first"
        assert "this window is none" in str(
            browser.first("#windows input").get_attribute("title")
        )
        click(browser, "[data-do=pause]")
        until(browser, lambda: status(browser).startswith("paused"))
        release.set()
        until(browser, lambda: status(browser).endswith("2 of 3"))
        assert "waits for a resume" in text(browser, "#waiting")
        one = browser.driver.current_window_handle
        browser.driver.switch_to.new_window("tab")
        browser.driver.get(server.url)
        until(browser, lambda: not browser.first("[data-do=pause]").is_displayed())
        click(browser, "[data-do=resume]")
        until(browser, lambda: status(browser).startswith("ended"))
        browser.driver.close()
        browser.driver.switch_to.window(one)
        until(
            browser,
            lambda: str(browser.first("#words a").get_attribute("href")).startswith(
                "blob:"
            ),
        )
    assert text(browser, "h1") == NASTY
    assert browser.first("#phase").get_attribute("class") == "badge good"
    assert (
        browser.evaluate("document.title"),
        browser.evaluate("document.images.length"),
    ) == (NASTY, 0)
    assert browser.evaluate("document.querySelectorAll('#timeline g.job').length") == 3
    assert not browser.first("#running").is_displayed()
    assert browser.console_messages() == []


def test_what_has_failed_is_mended_and_tried_again_from_a_page(
    browser: Browser,
) -> None:
    """A held run says so; a row tries its jobs again, and the button beside the verdict all that has failed. The button
    that would end the run asks, and is disarmed when another person has tried something again."""
    broken = {"one", "two", "login"}

    async def work(name: str) -> None:
        if name in broken:
            raise (OSError if name == "login" else ValueError)(f"{name} is broken")

    jobs = [Job(work, name, label=name) for name in ("one", "two", "login")]
    scheduler = Scheduler(
        *jobs, Job(nothing, required=jobs, label="last"), label="mended", hold=True
    )
    running = threading.Thread(target=scheduler.run, daemon=True)
    running.start()
    while not scheduler.is_paused():
        time.sleep(0.001)
    with serving() as server:
        following = threading.Thread(target=server.page.follow, daemon=True)
        following.start()
        browser.driver.get(server.url)
        until(browser, lambda: status(browser) == "held 4 of 4")
        assert (
            text(browser, "#problem") == "held: 3 failed; try again, or end as failed"
        )
        assert text(browser, "[data-do=resume]") == "End as failed"
        until(browser, lambda: text(browser, "#failed .total") == "3")
        click(browser, "#counts [data-state=failed]")  # which lists its jobs
        until(browser, lambda: len(browser.all("#found li")) == 3)
        click(browser, "#found .close")
        broken.discard("login")

        def failed(names: str) -> WebElement:
            rows = browser.all("#failed li")
            return next(
                each
                for each in rows
                if each.find_element(By.CSS_SELECTOR, "bdi").text == names
            )

        until(browser, lambda: "Try 2 again" in failed("one, two").text)
        press(browser, lambda: failed("login").find_element(By.CSS_SELECTOR, ".retry"))
        until(browser, lambda: text(browser, "#problem").startswith("held: 2 failed"))
        click(browser, "[data-do=resume]")
        assert text(browser, "[data-do=resume]") == "End the run?"
        _client.ask(os.getpid(), {"do": "try-again", "value": "one"})
        until(browser, lambda: text(browser, "[data-do=resume]") == "End as failed")
        until(browser, lambda: text(browser, "#problem").startswith("held: 2 failed"))
        broken.clear()
        until(
            browser, lambda: browser.first("#words [data-do=try-again]").is_displayed()
        )
        click(browser, "#words [data-do=try-again]")
        until(browser, lambda: status(browser).startswith("ended"))
        assert "all 4 jobs succeeded" in text(browser, "#when")
        following.join()
    running.join()
    assert [job.attempts for job in jobs] == [3, 2, 2]


def test_what_has_succeeded_runs_again_from_its_panel_after_a_second_click(
    browser: Browser,
) -> None:
    """The button asks with how many others, and what it cancels for it, however often the panel is filled anew."""
    results = iter((41, 42, 43))

    async def use(number: int) -> int:
        if number == 42:
            await anyio.sleep_forever()
        return number

    collected = Job(at_once, lambda: next(results), label="collect")
    users = [Job(use, collected, label=f"use {number}") for number in range(3)]
    with watched(collected, *users, Job(anyio.sleep_forever, label="other")) as server:
        browser.driver.get(server.url)
        until(browser, lambda: browser.first("#find").send_keys("collect") or True)
        click(browser, "#found .pick")
        retry = "#job .retry"
        for question, results_after in (
            ("Run it again, and 3 jobs that used it?", 42),
            ("Cancel use 0, use 1, use 2? Run it again, and 3 jobs that used it?", 43),
        ):
            # News of the jobs take the question back, until they have all come.
            deadline = time.monotonic() + PATIENCE
            while collected.result(default=None) != results_after:
                assert time.monotonic() < deadline
                until(browser, lambda: text(browser, retry) == "Run again")
                until(
                    browser,
                    lambda asked=question: (
                        browser.first(retry).get_attribute("data-question") == asked
                    ),
                )
                click(browser, retry)
                if text(browser, retry) != question:
                    continue
                time.sleep(0.7)
                click(browser, retry)
                tried = time.monotonic() + 5
                while (
                    collected.result(default=None) != results_after
                    and time.monotonic() < tried
                ):
                    time.sleep(0.05)
            until(browser, lambda: text(browser, "#job .state") == "succeeded")
        until(
            browser, lambda: [user.result(default=None) for user in users] == [43] * 3
        )
        assert [user.attempts for user in users] == [3] * 3
        assert browser.console_messages() == []


def test_a_button_takes_mended_code(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tries again what has failed, and the log of the page says who has taken which functions."""
    file = tmp_path / "mended_by_a_button.py"
    file.write_text("async def upload():\n    return missing\n")
    os.utime(file, (1, 1))  # before this program has started
    monkeypatch.syspath_prepend(str(tmp_path))
    job = Job(importlib.import_module("mended_by_a_button").upload, label="upload")
    running = threading.Thread(
        target=Scheduler(job, label="mended", hold=True).run, daemon=True
    )
    running.start()
    with serving() as server:
        following = threading.Thread(target=server.page.follow, daemon=True)
        following.start()
        browser.driver.get(server.url)
        until(browser, lambda: status(browser) == "held 1 of 1")
        assert not browser.first("#words .reload").is_displayed()
        file.write_text("async def upload():\n    return 42\n")
        until(browser, lambda: browser.first("#words .reload").is_displayed())
        assert text(browser, "#problem").endswith(
            "mended_by_a_button.py changed since it was loaded"
        )
        click(browser, "#words .reload")
        until(browser, lambda: status(browser).startswith("ended"))
        assert "reloaded mended_by_a_button.py: upload by trioflow look, pid" in text(
            browser, "#log"
        )
        following.join()
    running.join()
    sys.modules.pop("mended_by_a_button")
    assert job.result() == 42


def test_a_button_runs_a_success_again_with_mended_code(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mended_success.py"
    file.write_text("async def collect():\n    return 41\n")
    os.utime(file, (1, 1))  # before this program has started
    monkeypatch.syspath_prepend(str(tmp_path))
    collected = Job(importlib.import_module("mended_success").collect, label="collect")

    async def upload(number: int) -> None:
        if number != 42:
            raise ValueError(number)

    with watched(
        collected, Job(upload, collected, label="upload"), hold=True
    ) as server:
        browser.driver.get(server.url)
        until(browser, lambda: browser.first("#find").send_keys("collect") or True)
        click(browser, "#found .pick")
        until(browser, lambda: text(browser, "#job .retry") == "Run again")
        file.write_text("async def collect():\n    return 42\n")
        until(
            browser,
            lambda: text(browser, "#job .retry") == "Run again with the mended code",
        )
        click(browser, "#job .retry")
        until(
            browser,
            lambda: (
                text(browser, "#job .retry") == "Run it again, and 1 job that used it?"
            ),
        )
        time.sleep(0.7)
        click(browser, "#job .retry")
        until(browser, lambda: status(browser).startswith("ended"))
    sys.modules.pop("mended_success")
    assert collected.result() == 42


UNDER_POINTER = """(() => {
  const row = document.elementFromPoint(arguments[0], arguments[1])?.closest("li");
  return row?.querySelector("bdi").textContent ?? "";
})()"""


def test_a_row_stays_under_the_pointer_and_asks_in_its_own_place(
    browser: Browser,
) -> None:
    """While others end and begin, a row keeps its place, its question stands in it, and a second click says yes."""
    long = [Job(anyio.sleep_forever, label=f"long {number}") for number in range(4)]
    with watched(*long, short_jobs(), jobs_window=9) as server:
        browser.driver.get(server.url)
        button = row(browser, "long 2").find_element(By.CSS_SELECTOR, ".cancel")
        until(browser, lambda: len(browser.all("#running li")) > 7)
        pointer, box = point(browser, button), button.rect
        place = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        settled, seen = text(browser, "#settled"), set[str]()
        for _ in range(25):
            seen.add(browser.evaluate(UNDER_POINTER, *place))
            time.sleep(0.2)
        assert seen == {"long 2"}
        assert text(browser, "#settled") != settled
        pointer.click().perform()
        until(
            browser,
            lambda: (
                button.text == "Cancel?"
                or ActionChains(browser.driver).click().perform()
            ),
        )
        settled = text(browser, "#settled")
        until(browser, lambda: text(browser, "#settled") != settled)
        assert (button.rect, button.text, browser.evaluate(UNDER_POINTER, *place)) == (
            box,
            "Cancel?",
            "long 2",
        )
        time.sleep(0.5)  # a double click is one click
        ActionChains(browser.driver).click().perform()
        until(browser, lambda: text(browser, "#answer") == "'long 2': cancelled")
        until(browser, lambda: "1 cancelled" in text(browser, "#counts"))
        assert [job.label for job in long if not job.is_running()] == ["long 2"]
        assert browser.console_messages() == []


BARS = "[...document.querySelectorAll('#bars li')].map((row) => row.innerText)"


def test_a_row_of_the_timeline_keeps_its_job_as_long_as_it_is_shown(
    browser: Browser,
) -> None:
    """The first rows of more than 60 jobs ended, and all others moved up in each second. At the end, it is hidden."""
    long = [Job(anyio.sleep_forever, label=f"long {number}") for number in range(4)]
    with watched(*long, short_jobs(), jobs_window=9) as server:
        browser.driver.get(server.url)
        until(browser, lambda: len(browser.evaluate(BARS)) == 60)
        places, moved = dict[str, int](), set[str]()
        until(browser, lambda: int(text(browser, "#settled").split()[0]) > 90)
        for _ in range(25):
            shown = browser.evaluate(BARS)
            assert len({*shown}) == len(shown) == 60
            moved.update(
                label
                for place, label in enumerate(shown)
                if places.get(label, place) != place
            )
            places = {label: place for place, label in enumerate(shown)}
            time.sleep(0.2)
        assert moved == set()
        assert {job.label for job in long} <= {*places}
        browser.evaluate(
            "[...document.querySelectorAll('#bars li')].find((row) => row.innerText == 'long 2').firstChild.click()"
        )
        until(browser, lambda: text(browser, "#job h2") == "long 2")
        _client.ask(os.getpid(), {"do": "cancel"})
        until(browser, lambda: status(browser).startswith("ended"))
        assert not browser.first("#bars").is_displayed()
        assert browser.console_messages() == []


def test_what_is_above_the_pointer_does_not_grow(browser: Browser) -> None:
    """A click met the button of another row, because more had begun to run; these come when the pointer has gone."""
    release = threading.Event()
    gate = ThreadJob(release.wait, label="gate")
    jobs = [
        gate,
        *(
            Job(anyio.sleep_forever, label=f"more {letter}", required=gate)
            for letter in "abc"
        ),
    ]
    with (
        watched(Job(fail, 0, ValueError("broken"), label="wrong"), jobs) as server,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(release.set)
        browser.driver.get(server.url)
        until(
            browser,
            lambda: (
                text(browser, "#failed .total") == "1"
                and text(browser, "#running .total") == "1"
            ),
        )
        browser.evaluate(
            "(performance.now = () => 0)"
        )  # the pointer has moved just now
        point(browser, button := browser.first("#failed .retry")).perform()
        box = button.rect
        release.set()
        until(browser, lambda: text(browser, "#running .total") == "3")
        assert (button.rect, len(browser.all("#running li:not(.gone)"))) == (box, 0)
        point(browser, browser.first("h1")).perform()
        until(browser, lambda: len(browser.all("#running li:not(.gone)")) == 3)
        assert browser.console_messages() == []


def test_a_question_is_taken_back_by_escape_and_by_a_click_elsewhere(
    browser: Browser,
) -> None:
    """What was asked once is not done by a click that comes after another thing was clicked."""
    with watched(long := Job(anyio.sleep_forever, label="long")) as server:
        browser.driver.get(server.url)
        button = row(browser, "long").find_element(By.CSS_SELECTOR, ".cancel")
        for no in (
            lambda: ActionChains(browser.driver).send_keys(Keys.ESCAPE).perform(),
            browser.first("h1").click,
        ):
            until(browser, lambda: button.click() or button.text == "Cancel?")
            no()
            until(browser, lambda: button.text == "×")
        assert long.is_running()


def test_a_double_click_is_one_click_and_an_empty_answer_asks(browser: Browser) -> None:
    approve, note = (
        Answer("publish?", choices=["yes", "no"], label="approve"),
        Answer("why?", label="note"),
    )
    with watched(approve, note) as server:
        browser.driver.get(server.url)
        until(browser, lambda: len(browser.all("#asks li")) == 2)
        no, answer = (
            browser.first("#asks [data-value=no]"),
            browser.first("#asks input + button"),
        )
        until(
            browser,
            lambda: (
                ActionChains(browser.driver).double_click(no).perform()
                or no.text == "Answer no?"
            ),
        )
        browser.first("#asks input").send_keys(Keys.ENTER)
        assert (no.text, answer.text) == ("no", "Answer nothing?")
        time.sleep(0.5)
        assert approve.is_running()
        assert note.is_running()
        answer.click()
        until(browser, note.is_settled)
        assert (note.result(), approve.is_running()) == ("", True)


def test_a_button_that_asks_moves_no_other(browser: Browser) -> None:
    """A click on "no", where it had been before "yes" asked, was a yes."""
    with watched(Answer("publish?", choices=["yes", "no"], label="approve")) as server:
        browser.driver.get(server.url)
        until(browser, lambda: len(browser.all("#asks li")) == 1)
        buttons = "[...document.querySelectorAll('#asks button, #words > button')]"
        places = f"{buttons}.map((button) => button.getBoundingClientRect().x)"
        before = browser.evaluate(places)
        for css, question in (
            ("#asks [data-value=yes]", "Answer yes?"),
            ("#words [data-do=cancel]", "Cancel all?"),
        ):
            arm(browser, css, question)
            assert browser.evaluate(places) == before


def test_an_armed_answer_is_disarmed_when_it_is_asked_anew(browser: Browser) -> None:
    """A button that was armed beside "Pay 100 euros?" paid 900."""
    amounts, anew = iter((100, 900)), threading.Event()

    def fail_once() -> None:
        if not anew.is_set():
            anew.wait()
            raise ValueError("once more")

    ask = Answer(
        planned := Job(at_once, lambda: f"Pay {next(amounts)} euros?"),
        choices=["yes", "no"],
        label="ask",
    )
    group = Scheduler(
        planned,
        ask,
        ThreadJob(fail_once, critical=True),
        label="group",
        retry=Retry(1, first=0),
    )
    with watched(group) as server, contextlib.ExitStack() as stack:
        stack.callback(anew.set)
        browser.driver.get(server.url)
        find = "#asks [data-value=yes]"
        arm(browser, find, "Answer yes?")
        assert "Pay 100" in text(browser, "#asks")
        anew.set()
        until(
            browser,
            lambda: (
                "Pay 900" in text(browser, "#asks")
                and browser.first(find).text == "yes"
            ),
        )
        assert "asked anew" in text(browser, "#asks .error")
        assert ask.is_running()
        arm(browser, find, "Answer yes?")
        time.sleep(0.5)
        browser.first(find).click()
        until(browser, ask.is_settled)
        assert (ask.question, ask.result()) == ("Pay 900 euros?", "yes")


def test_the_keyboard_keeps_its_place_and_cancels_by_two_times_enter(
    browser: Browser,
) -> None:
    """Arrows go through the rows; the focus stays while rows come and go; Enter asks, and Enter again says yes."""
    with watched(
        Job(anyio.sleep_forever, label="long"), short_jobs(), jobs_window=7
    ) as server:
        browser.driver.get(server.url)
        pick = row(browser, "long").find_element(By.CSS_SELECTOR, ".pick")
        until(browser, lambda: len(browser.all("#running li")) > 4)
        browser.evaluate("arguments[0].focus()", pick)
        ActionChains(browser.driver).send_keys(
            Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.TAB
        ).perform()
        name = "document.activeElement.getAttribute('aria-label')"
        for _ in range(10):
            assert browser.evaluate(name) == "Cancel long"
            time.sleep(0.3)
        ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
        until(
            browser,
            lambda: browser.evaluate("document.activeElement.textContent") == "Cancel?",
        )
        ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
        until(browser, lambda: text(browser, "#answer") == "'long': cancelled")


def test_the_job_in_the_row_is_cancelled_whatever_its_label(browser: Browser) -> None:
    jobs = [
        Job(anyio.sleep_forever, label=label) for label in ("report\n", "report\\n")
    ]
    with watched(*jobs) as server:
        browser.driver.get(server.url)
        until(browser, lambda: len(browser.all("#running li")) == 2)
        assert [element.text for element in browser.all("#running bdi")] == 2 * [
            "report\\n"
        ]
        button = browser.all("#running .cancel")[1]
        until(browser, lambda: button.click() or button.text == "Cancel?")
        until(browser, lambda: button.click() or button.text != "Cancel?")
        until(browser, lambda: "1 cancelled" in text(browser, "#counts"))
        assert [job.state.name for job in jobs] == ["RUNNING", "CANCELLED"]


def test_a_page_sets_the_window_of_a_group_and_shows_the_job_of_a_node(
    browser: Browser,
) -> None:
    """Enter in the field of a group sets its window alone; a node of the graph chooses its job."""
    inner = [Job(anyio.sleep_forever, label=f"inner {number}") for number in range(5)]
    group = Scheduler(*inner, label="group", jobs_window=2)
    with watched(group, jobs_window=3) as server:
        browser.driver.get(server.url)
        row(browser, "group/inner 1")
        click(browser, "#windows summary")
        assert [element.text for element in browser.all("#windows li bdi")] == [
            "the run",
            "group",
        ]
        field = browser.all("#windows input")[1]
        field.send_keys(
            Keys.CONTROL, "a", Keys.NULL, "4", Keys.ENTER
        )  # a field without the focus takes over its value
        until(
            browser, lambda: text(browser, "#answer") == "'group': jobs_window set to 4"
        )
        row(browser, "group/inner 3")
        assert (group.jobs_window, group.scheduler.jobs_window) == (4, 3)  # type: ignore[union-attr]
        click(browser, "#windows summary")
        node = "[...document.querySelectorAll('#map .node')].find((node) => node.textContent.includes('inner 4'))"
        until(browser, lambda: browser.evaluate(node))
        point(browser, browser.evaluate(node)).click().perform()
        until(browser, lambda: text(browser, "#job h2") == "group/inner 4")
        assert "waits for a slot" in text(browser, "#job .why")
        assert text(browser, "#job .state") == "scheduled"
        click(browser, "#job .links button")
        until(browser, lambda: text(browser, "#job h2") == "group")
        browser.driver.execute_script(
            f"{node.replace('4', '2')}.focus()"
        )  # by the keyboard, too
        ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
        until(browser, lambda: text(browser, "#job h2") == "group/inner 2")
        ActionChains(browser.driver).send_keys(Keys.ARROW_LEFT, Keys.ENTER).perform()
        until(browser, lambda: text(browser, "#job h2") == "group/inner 1")
        assert len(browser.all("#map [tabindex='0']")) == 1
        assert (
            browser.evaluate(
                "document.activeElement.querySelector('title').textContent"
            )
            == "inner 1: running"
        )
        browser.driver.execute_script(
            "document.querySelector('#map .cluster').dispatchEvent(new MouseEvent('click', { bubbles: true }))"
        )
        until(browser, lambda: text(browser, "#job h2") == "group")
        assert (
            browser.evaluate(
                "document.querySelector('#map .cluster').textContent"
            ).count("0 of 5")
            == 1
        )
        assert browser.console_messages() == []


def test_a_graph_that_does_not_fit_says_that_it_scrolls(browser: Browser) -> None:
    """The last box of a chain was cut off at the lower edge, and nothing said so. Nor is there an estimate without a
    figure."""
    jobs = [
        Job(anyio.sleep_forever, label=f"step {chr(ord('a') + number)}")
        for number in range(12)
    ]
    for earlier, job in itertools.pairwise(jobs):
        job.requires(earlier)
    with watched(jobs) as server:
        browser.driver.get(server.url)
        until(browser, lambda: text(browser, "#map .note").startswith("There is more"))
        assert text(browser, "#map .note").endswith("scroll.")
        assert (
            browser.evaluate(
                "getComputedStyle(document.querySelector('#about')).visibility"
            )
            == "hidden"
        )
        browser.driver.execute_script(
            "document.querySelector('#map .card').style.maxHeight = 'none'"
        )
        jobs[0].cancel()
        until(browser, lambda: text(browser, "#map .note") == "")


def test_the_chosen_command_shows_the_end_of_its_output_while_it_runs(
    browser: Browser, tmp_path: Path
) -> None:
    """What a command has written so far is beside its row, and a link leads to the file of the other stream."""
    words = [
        "sh",
        "-c",
        f"echo first; echo wrong >&2; until test -e {tmp_path}/go; do sleep 0.05; done; exit 3",
    ]
    command = CommandJob(
        words, label="convert", stdout=subprocess.PIPE, stderr=tmp_path / "errors.txt"
    )
    with watched(command, Job(anyio.sleep_forever, label="other")) as server:
        browser.driver.get(server.url)
        press(
            browser,
            lambda: row(browser, "convert").find_element(By.CSS_SELECTOR, ".pick"),
        )
        until(browser, lambda: "first" in text(browser, "#job .texts"))
        (tmp_path / "go").touch()
        until(browser, lambda: text(browser, "#job .state") == "failed")
        until(browser, lambda: browser.all("#job .files a"))
        link = str(browser.first("#job .files a").get_attribute("href"))
        with urllib.request.urlopen(link) as answer:
            assert answer.read() == b"wrong\n"


def test_a_page_asks_again_after_a_request_that_failed(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that nothing answers, and since when, keeps its buttons, and goes on when there are answers again."""
    is_down = threading.Event()
    process_request = PageServer.process_request

    def process(server: PageServer, request: Any, address: Any) -> None:
        if is_down.is_set():
            server.shutdown_request(request)
        else:
            process_request(server, request, address)

    monkeypatch.setattr(PageServer, "process_request", process)
    monkeypatch.setattr(
        PageHandler, "protocol_version", "HTTP/1.0"
    )  # so that each request has its own connection
    release = threading.Event()
    with watched(
        ThreadJob(release.wait, label="long"), Job(anyio.sleep_forever, label="other")
    ) as server:
        browser.driver.get(server.url)
        row(browser, "long")
        is_down.set()
        until(browser, lambda: "does not answer since" in text(browser, "#answer"))
        assert browser.first("[data-do=pause]").is_displayed()
        is_down.clear()
        release.set()
        until(browser, lambda: status(browser) == "runs 2 of 3")
        until(browser, lambda: text(browser, "#answer") == "")


def test_a_graph_is_asked_for_again_after_a_request_that_failed(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_down = threading.Event()
    is_down.set()
    requested_name = PageHandler._requested_name

    def answer(handler: PageHandler) -> str:
        name = requested_name(handler)
        if name.startswith("graph") and is_down.is_set():
            failed.set()
            raise ConnectionResetError
        return name

    failed = threading.Event()
    monkeypatch.setattr(PageHandler, "_requested_name", answer)
    release = threading.Event()
    with watched(
        ThreadJob(release.wait, label="long"), Job(anyio.sleep_forever, label="other")
    ) as server:
        browser.driver.get(server.url)
        assert failed.wait(PATIENCE)
        row(browser, "long")
        is_down.clear()
        release.set()
        until(browser, lambda: browser.all("#map .node.running"))


def test_hostile_labels_are_text_in_every_part_of_a_page(browser: Browser) -> None:
    """In rows, in the graph, in the panel and in the windows, a label makes no element, attribute or link."""
    of_dot = '"]; x [URL="javascript:alert(1)"]; y [label="'
    labels = [NASTY, of_dot, "\\N<<b>x</b>>", "a\nb\x1b[31m", "\u202eabc", "\ud800"]
    groups = [
        Scheduler(Job(anyio.sleep_forever, label=label), label=label)
        for label in labels
    ]
    with watched(
        *(Job(anyio.sleep_forever, label=label) for label in labels), *groups
    ) as server:
        browser.driver.get(server.url)
        until(browser, lambda: len(browser.all("#running li")) == 2 * len(labels))
        until(browser, lambda: len(browser.all("#map .node")) >= 2 * len(labels))

        def pick(number: int) -> WebElement:
            return browser.all("#running .pick")[number]

        for number in range(2 * len(labels)):
            press(browser, lambda number=number: pick(number))
            until(
                browser,
                lambda number=number: text(browser, "#job h2").startswith(
                    pick(number).text[:5].strip()
                ),
            )
        click(browser, "#windows summary")
        assert (
            browser.all(
                "#console b b, #console script, img, [onerror], [onload], [href^=java]"
            )
            == []
        )
        assert browser.evaluate("document.title") == NASTY
        assert browser.console_messages() == []


def test_what_the_graph_does_not_show_yet_is_not_drawn(browser: Browser) -> None:
    """A box that has no state yet has the colour of its ground; a card without a graph is hidden."""
    with watched(Job(anyio.sleep_forever, label="waits")) as server:
        browser.driver.get(server.url)
        until(browser, lambda: browser.all("#map .node.running"))
        ground, new = browser.evaluate(
            """(() => {
                const [card, node] = ["#map .card", "#map .node.running"].map((css) => document.querySelector(css));
                node.setAttribute("class", "node");
                return [getComputedStyle(card).backgroundColor, getComputedStyle(node.querySelector("path")).fill];
            })()"""
        )
        assert new == ground
        browser.driver.execute_script(
            "document.querySelector('#map .card').replaceChildren()"
        )
        assert not browser.first("#map .card").is_displayed()


def test_the_page_of_a_killed_program_says_so_and_fits_every_window(
    browser: Browser,
) -> None:
    """At any width and in both colour schemes, the page fits; its last state stays when the program is killed."""
    with program() as (process, page), serving(page) as server:
        following = threading.Thread(target=page.follow, daemon=True)
        following.start()
        browser.driver.get(server.url)
        for width, dark in itertools.product((390, 1200), (False, True)):
            browser.shape(width, dark=dark)
            browser.next_frame()
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
        process.kill()
        following.join()
        until(browser, lambda: "The program was killed" in text(browser, "#problem"))
        assert status(browser) == "gone 0 of 1"
        until(browser, lambda: "has not ended" in text(browser, "#rest .verdict"))


def test_the_page_of_a_run_of_the_command_gets_its_end(
    browser: Browser, tmp_path: Path
) -> None:
    """`trioflow run --web` ends when the browser has the report of the run, which can be saved without a server."""
    path = tmp_path / "flow.py"
    path.write_text(
        PROGRAM.replace(".run()", "").replace("Scheduler(Job", "s = Scheduler(Job"),
        encoding="utf-8",
    )
    words = ["-m", "trioflow", "run", "--no-monitor", "--web", str(path)]
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with Python(words, text=True, **pipes) as process:
        assert process.stderr is not None
        browser.driver.get(process.stderr.readline().strip())
        until(browser, lambda: status(browser) == "runs 0 of 1")
        process.communicate("\n")
    assert status(browser) == "ended 1 of 1"
    assert "OSError: broken" in text(browser, "#failed")
    assert browser.first("#phase").get_attribute("class") == "badge bad"
    until(
        browser,
        lambda: text(browser, "#answer").endswith("Save the report to keep it."),
    )
    assert not browser.first("#answer").get_attribute("class")
    until(
        browser,
        lambda: str(browser.first("#words a").get_attribute("href")).startswith(
            "blob:"
        ),
    )
    assert browser.console_messages() == []
    for words, count in (
        ("WORK", "1 of 1 job"),
        ("other", "0 of 1 job"),
        ("", "1 job"),
    ):
        browser.evaluate(
            FIND, words
        )  # nobody answers any more: the report has the jobs
        until(browser, lambda count=count: text(browser, "#shown") == count)
        if words:
            until(
                browser,
                lambda count=count: (
                    f"In the report below: {count}." in text(browser, "#answer")
                ),
            )


def test_the_keyboard_finds_a_job_and_answers_a_question(browser: Browser) -> None:
    """A slash goes to the search, Enter to the first that it has found, Escape back; a list opens below its row."""
    ask = Answer("publish?", choices=["yes", "no"], label="approve")
    inner = [Job(anyio.sleep_forever, label=f"step {number}") for number in range(9)]
    with watched(ask, Scheduler(inner, jobs_window=2, label="inner")) as server:
        browser.driver.get(server.url)
        until(browser, lambda: text(browser, "#asks .sub") == "publish?")
        # A row for jobs that are about to start goes away with what opens below it.
        until(browser, lambda: text(browser, "#waiting .pick").startswith("7 jobs"))

        def keys(*pressed: str) -> None:
            ActionChains(browser.driver).send_keys(*pressed).perform()

        keys("/", "step 7")
        until(
            browser,
            lambda: (
                [row.text.split()[0] for row in browser.all("#found li")]
                == ["inner/step"]
            ),
        )
        keys(Keys.ENTER)
        until(browser, lambda: text(browser, "#job h2") == "inner/step 7")
        keys(Keys.ARROW_DOWN, Keys.ESCAPE)
        until(browser, lambda: not browser.first("#job").is_displayed())
        assert browser.evaluate("document.activeElement.innerText") == "inner/step 7"
        keys(Keys.ESCAPE)
        until(browser, lambda: not browser.first("#found").is_displayed())
        assert browser.evaluate("document.activeElement.id") == "find"
        browser.evaluate("document.querySelector('#waiting .pick').focus()")
        keys(Keys.ENTER)
        until(browser, lambda: len(browser.all("#waiting li #found li")) == 7)
        time.sleep(1)
        assert len(browser.all("#waiting li #found li")) == 7
        browser.evaluate("document.querySelector('#asks [data-value=yes]').focus()")
        keys(Keys.ENTER)
        until(
            browser,
            lambda: (
                browser.evaluate("document.activeElement.textContent") == "Answer yes?"
            ),
        )
        keys(Keys.ENTER)
        until(browser, lambda: text(browser, "#answer") == "'approve': answered 'yes'")
        until(browser, lambda: not browser.first("#asks").is_displayed())
        assert browser.evaluate("document.activeElement.className") == "pick"
        told = "answered 'yes' by trioflow look"
        until(browser, lambda: told in text(browser, "#log"))
        assert browser.console_messages() == []
    assert ask.result() == "yes"


def test_the_filter_of_the_log_hides_at_once_also_under_the_pointer(
    browser: Browser,
) -> None:
    """Rows that did not match were greyed while the pointer was over them; a line of several jobs opens to these."""

    async def bad(error: type[Exception]) -> None:
        raise error("broken")

    jobs = [
        Job(bad, ValueError if number else OSError, label=f"bad {number}")
        for number in range(4)
    ]
    with watched(jobs, Job(anyio.sleep_forever)) as server:
        browser.driver.get(server.url)
        until(browser, lambda: len(browser.all("#log > ol > li")) == 2)
        rows = {row.text.split()[0]: row for row in browser.all("#log > ol > li")}
        point(browser, rows["bad"]).perform()
        browser.evaluate("document.querySelector('#log input').focus()")
        shown = """(() => {
          const field = document.querySelector("#log input");
          field.value = arguments[0];
          field.dispatchEvent(new Event("input", { bubbles: true }));
          const rows = [...document.querySelectorAll("#log > ol > li")];
          return rows.filter((row) => row.offsetHeight).map((row) => row.innerText);
        })()"""
        [row] = browser.evaluate(shown, "bad VALUEerror")
        assert row.startswith("3 jobs")
        until(browser, lambda: len(browser.all("#log > ol > li")) == 1)
        assert browser.evaluate(shown, "nothing like that") == []
        browser.evaluate(shown, "")
        until(
            browser,
            lambda: (
                [row.is_displayed() for row in browser.all("#log > ol > li")]
                == [True, True]
            ),
        )
        browser.evaluate(
            "[...document.querySelectorAll('#log .pick')].find((one) => one.innerText[0] == '3').click()"
        )
        until(browser, lambda: len(browser.all("#log li #found li")) == 3)
        assert browser.console_messages() == []


FOCUS = "(() => { const one = document.activeElement; return one.getAttribute('aria-label') ?? one.innerText; })()"


def test_the_focus_stays_where_the_keyboard_has_put_it(browser: Browser) -> None:
    """Pause becomes Resume; the button of a job that ends gives its row; what was closed, the row behind it."""
    release = threading.Event()
    jobs = [
        ThreadJob(release.wait, 30, label="short"),
        Job(anyio.sleep_forever, label="long"),
    ]
    with watched(*jobs) as server, contextlib.ExitStack() as stack:
        stack.callback(release.set)
        browser.driver.get(server.url)
        row(browser, "long")

        def keys(*pressed: str) -> None:
            ActionChains(browser.driver).send_keys(*pressed).perform()

        browser.evaluate("document.querySelector('[data-do=pause]').focus()")
        for expected in ("Resume", "Pause"):
            keys(Keys.ENTER)
            until(
                browser, lambda expected=expected: browser.evaluate(FOCUS) == expected
            )
        row(browser, "short").find_element(By.CSS_SELECTOR, ".pick").send_keys(
            Keys.ENTER
        )
        until(browser, lambda: browser.first("#job").is_displayed())
        browser.evaluate("document.querySelector('#job .close').focus()")
        keys(Keys.ESCAPE)
        assert browser.evaluate(FOCUS) == "short"
        keys(Keys.TAB)
        assert browser.evaluate(FOCUS) == "Cancel short"
        release.set()
        until(browser, lambda: browser.evaluate(FOCUS) == "short")
        browser.evaluate("document.querySelector('#counts a').focus()")
        keys(Keys.ENTER)
        until(browser, lambda: browser.first("#found").is_displayed())
        row(browser, "long").find_element(By.CSS_SELECTOR, ".pick").send_keys(
            Keys.ENTER
        )
        until(browser, lambda: browser.first("#job .cancel").is_displayed())
        browser.evaluate("document.querySelector('#job .cancel').focus()")
        for expected in ("Cancel?", "Close"):
            keys(Keys.ENTER)
            until(
                browser, lambda expected=expected: browser.evaluate(FOCUS) == expected
            )
        keys(Keys.ESCAPE)
        until(
            browser,
            lambda: browser.evaluate("document.activeElement !== document.body"),
        )
        assert browser.console_messages() == []


HOLD_NEXT = """(() => {
  const ask = window.fetch;
  window.fetch = async (what, ...rest) => {
    const answer = await ask(what, ...rest);
    if (what.split("?")[0] !== window.held) return answer;
    window.held = "";
    await new Promise((go) => (window.release = go));
    return answer;
  };
})()"""
SEE = """(() => {
  const place = document.querySelector(arguments[0]);
  new MutationObserver(() => (window.seen += place.textContent)).observe(place, { subtree: true, childList: true });
})()"""
FIND = """(() => {
  document.querySelector("#find").value = arguments[0];
  document.querySelector("#find").dispatchEvent(new Event("input"));
})()"""


def test_an_answer_that_comes_late_replaces_nothing(browser: Browser) -> None:
    """The panel is that of the job that was chosen last, and the list has what was typed last."""

    def choose(label: str) -> None:
        press(
            browser,
            lambda label=label: row(browser, label).find_element(
                By.CSS_SELECTOR, ".pick"
            ),
        )

    def find(label: str) -> None:
        browser.evaluate(FIND, label)

    def shown(place: str) -> str:
        return f"{browser.evaluate('window.seen')} {text(browser, place)}"

    questions: dict[str, tuple[str, Callable[[str], None]]] = {
        "job": ("#job h2", choose),
        "jobs": ("#found ol", find),
    }
    with watched(
        [Job(anyio.sleep_forever, label=label) for label in ("first", "second")]
    ) as server:
        browser.driver.get(server.url)
        browser.evaluate(HOLD_NEXT)
        for question, (place, ask) in questions.items():
            browser.evaluate(
                "[window.held, window.release, window.seen] = [arguments[0], null, '']",
                question,
            )
            ask("first")
            until(browser, lambda: browser.evaluate("window.release !== null"))
            ask("second")
            until(browser, partial(lambda place: "second" in shown(place), place))
            browser.evaluate(SEE, place)
            browser.evaluate("window.release()")
            time.sleep(0.2)
            assert "first" not in shown(place)


def tap(browser: Browser, css: str) -> None:
    """Touch the middle of an element, as a finger does."""
    middle = """(() => {
      const one = document.querySelector(arguments[0]);
      one.scrollIntoView({ block: "center" });
      const { x, y, width, height } = one.getBoundingClientRect();
      return [x + width / 2, y + height / 2];
    })()"""
    x, y = browser.evaluate(middle, css)
    for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
        browser.driver.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points}
        )
    time.sleep(0.5)  # what has moved under a finger is not touched


def test_a_finger_reaches_all_that_a_page_has(browser: Browser) -> None:
    """At 390 pixels: a question is answered, a box opens, a job is searched; each target is at least 24 pixels high."""
    ask = Answer("publish?", choices=["yes", "no"], label="approve")
    touch = "Emulation.setTouchEmulationEnabled"
    with watched(
        ask,
        Scheduler(Job(anyio.sleep_forever, label="in"), label="box"),
        Job(anyio.sleep_forever),
    ) as server:
        browser.shape(390, 844, dark=False)
        browser.driver.execute_cdp_cmd(touch, {"enabled": True})
        browser.driver.get(server.url)
        until(
            browser,
            lambda: (
                browser.all("#asks .choices button") and browser.all("#map .cluster")
            ),
        )
        time.sleep(0.5)
        heights = """[...document.querySelectorAll(":is(#live, #console) :is(a, button, input, summary)")]
            .filter((one) => one.checkVisibility()).map((one) => one.getBoundingClientRect().height)"""
        assert min(browser.evaluate(heights)) >= 24
        assert (
            min(
                browser.evaluate(
                    heights.replace(
                        "a, button, input", "button[data-do], .choices button"
                    )
                )
            )
            >= 44
        )
        tap(browser, "#asks [data-value=yes]")
        tap(browser, "#asks [data-value=yes]")
        until(browser, lambda: text(browser, "#answer") == "'approve': answered 'yes'")
        tap(browser, "#map .cluster text")
        until(
            browser,
            lambda: (
                [one.text.split()[0] for one in browser.all("#found li")] == ["box/in"]
            ),
        )
        until(browser, lambda: text(browser, "#job h2") == "box")
        assert min(browser.evaluate(heights)) >= 24
        tap(browser, "#job .close")
        tap(browser, "#counts a")
        until(browser, lambda: browser.first("#found").is_displayed())
        browser.driver.execute_cdp_cmd(touch, {"enabled": False})
        assert browser.console_messages() == []
    assert ask.result() == "yes"
