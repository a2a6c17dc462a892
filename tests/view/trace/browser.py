"""A headless Chromium for tests of pages: it opens a file, and returns the messages of the console."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

SHELL = "/usr/lib/chromium/chromium-headless-shell"
"""The program itself: the driver would stop only the script that starts it, and leave the browser running."""
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


class Browser:
    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.loads = itertools.count()

    def open(
        self,
        path: Path,
        fragment: str = "",
        *,
        width: int = 1400,
        height: int = 1000,
        dark: bool = False,
    ) -> None:
        self.shape(width, height, dark=dark)
        self.driver.get(
            f"{path.as_uri()}?{next(self.loads)}{fragment}"
        )  # a new address, so that it is loaded anew
        self.next_frame()  # the table renders its rows again once the page has its height

    def shape(self, width: int, height: int = 1000, *, dark: bool) -> None:
        """Give the window a size and a colour scheme."""
        metrics = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": False,
        }
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        # Animated scrolling would move elements before a click.
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [scheme, still]}
        )

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def first(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def evaluate(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *arguments)

    def next_frame(self) -> None:
        """Wait until the page is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def console_messages(self) -> list[str]:
        """Return the messages of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]


@contextmanager
def headless() -> Iterator[Browser]:
    driver = shutil.which("chromedriver")
    assert driver, "apt-get install chromium-headless-shell chromium-driver"
    options = Options()
    options.binary_location = SHELL
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(made)
    finally:
        made.quit()
