"""The page of a run in progress in a real browser: it moves, steers from each tab, and stays when the run has ended."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.support.wait import WebDriverWait

from trioflow import Job, Scheduler, ThreadJob
from trioflow.view.look._web import PageServer

from ...bodies import nothing
from ..trace.browser import Browser
from .pages import PROGRAM, ROOT, program, serving

pytestmark = pytest.mark.usefixtures("answers")

NASTY = "<img src=x onerror='document.title=1'><script>document.title=2</script>"


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """A browser without messages of earlier tests."""
    chromium.shape(1200, dark=False)
    chromium.console_messages()
    return chromium


def until(browser: Browser, is_true: Callable[[], Any]) -> None:
    """Wait until the page shows something. The page may replace an element between two questions about it."""
    WebDriverWait(browser.driver, 20, 0.05, [StaleElementReferenceException]).until(lambda _: is_true())


def text(browser: Browser, css: str) -> str:
    """Return the text of the first element that a selector finds, in one question."""
    return str(browser.evaluate("document.querySelector(arguments[0]).innerText", css)).strip()


def click(browser: Browser, css: str) -> None:
    until(browser, lambda: browser.first(css).click() or True)


def status(browser: Browser) -> str:
    return f"{text(browser, '#phase')} {text(browser, '#settled')}"


@contextmanager
def watched(*jobs: Any) -> Iterator[PageServer]:
    """Run jobs in another thread, and serve their page."""
    begun = threading.Event()
    running = threading.Thread(target=Scheduler(ThreadJob(begun.set), *jobs, label=NASTY).run, daemon=True)
    running.start()
    assert begun.wait(10)
    with serving() as server:
        following = threading.Thread(target=server.page.follow, daemon=True)
        following.start()
        yield server
        following.join()
    running.join()


def test_a_page_moves_and_steers_in_two_tabs(browser: Browser) -> None:
    """A pause in one tab is seen in another, which resumes the run; both show its end, and can be saved."""
    release = threading.Event()
    first = ThreadJob(release.wait, label="first")
    with watched(first, Job(nothing, label="second", required=first)) as server:
        browser.driver.get(server.url)
        until(browser, lambda: status(browser) == "runs 1 of 3")
        assert text(browser, "#running li bdi") == "first"
        assert "this window is none" in str(browser.first("#windows input").get_attribute("title"))
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
        until(browser, lambda: str(browser.first("#words a").get_attribute("href")).startswith("blob:"))
    assert text(browser, "h1") == NASTY
    assert browser.first("#phase").get_attribute("class") == "badge good"
    assert (browser.evaluate("document.title"), browser.evaluate("document.images.length")) == (NASTY, 0)
    assert browser.evaluate("document.querySelectorAll('#timeline g.job').length") == 3
    assert not browser.first("#running").is_displayed()
    assert browser.console_messages() == []


def test_what_is_cancelled_from_a_page_needs_a_second_click(browser: Browser) -> None:
    """The first click asks which job is meant, and the second one cancels it."""
    with watched(Job(anyio.sleep_forever, label="long")) as server:
        browser.driver.get(server.url)
        until(browser, lambda: status(browser) == "runs 1 of 2")
        until(
            browser, lambda: browser.first("#running .cancel").click() or text(browser, "#running .cancel") == "Cancel?"
        )
        click(browser, "#running .cancel")
        until(browser, lambda: status(browser).startswith("ended"))
    assert "1 cancelled" in text(browser, "#counts")


def test_the_page_of_a_killed_program_says_so_and_fits_every_window(browser: Browser) -> None:
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


def test_the_page_of_a_run_of_the_command_gets_its_end(browser: Browser, tmp_path: Path) -> None:
    """`trioflow run --web` ends when the browser has the report of the run, which can be saved without a server."""
    path = tmp_path / "flow.py"
    path.write_text(PROGRAM.replace(".run()", "").replace("Scheduler(Job", "s = Scheduler(Job"), encoding="utf-8")
    words = [sys.executable, "-m", "trioflow", "run", "--no-monitor", "--web", str(path)]
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, **pipes) as process:
        browser.driver.get(process.stderr.readline().strip())
        until(browser, lambda: status(browser) == "runs 0 of 1")
        process.communicate("\n")
    assert status(browser) == "ended 1 of 1"
    assert "OSError: broken" in text(browser, "#failed")
    assert browser.first("#phase").get_attribute("class") == "badge bad"
    until(browser, lambda: text(browser, "#answer").endswith("Save the report to keep it."))
    assert not browser.first("#answer").get_attribute("class")
    until(browser, lambda: str(browser.first("#words a").get_attribute("href")).startswith("blob:"))
    assert browser.console_messages() == []
