"""Make the pictures of the README and of these pages: python docs/make_pictures.py [NAME ...].

Each is made from what it shows: a run of `docs/release.py`, or of the scenario that a page describes. The pictures of
the monitor are the screen of a terminal to which `trioflow run` writes, by day and by night; Chromium renders it, and
the reports. All this takes about half a minute. It needs what `pip install -e . --group dev` installs, Graphviz, and
Chromium with its driver (`apt install graphviz chromium chromium-driver`).
"""

from __future__ import annotations

import fcntl
import html
import importlib.util
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
import graphviz
import pyte
from selenium import webdriver

from trioflow import Job, JobState, Pool, Scheduler, Trace, simulate
from trioflow._core.base._states import TRANSITIONS
from trioflow.testing import virtual_options
from trioflow.view import save
from trioflow.view._state_styles import STATE_STYLES
from trioflow.view.graph import _dot, _drawing
from trioflow.view.trace import _timeline

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "pictures"
COLUMNS, LINES = 80, 24
RELEASE = ["✗ .*AssertionError", "watch the load"]
"""The picture is taken when the monitor shows lines like these: one test has failed, others run."""
WEATHER = ["✗ .*KeyError", "▸ .*Cairo +attempt 2"]
"""The same for the tutorial."""

# ---------------------------------------------------------------- graphs, and a timeline


def imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save_timeline(trace: Trace, name: str, width: int = 1000) -> None:
    (PICTURES / f"{name}.svg").write_text(
        _timeline.timeline_svg(trace._get_record(), width), encoding="utf-8"
    )


def draw_slots() -> None:
    """Draw the timeline of a run with many jobs, whose builds share memory."""

    async def fetch(number: int) -> None:
        await anyio.sleep(1 + number * 7 % 5 / 2)
        if number == 61:
            raise ConnectionError("no route to the mirror")

    fetches = [Job(fetch, number, label=f"fetch {number}") for number in range(120)]
    builds = [
        Job(
            anyio.sleep,
            2 + number * 11 % 13,
            label=f"build {number}",
            required=one,
            needs={"mem": 1 + number % 3},
        )
        for number, one in enumerate(fetches)
    ]
    tests = [
        Job(anyio.sleep, 1 + number % 3, label=f"test {number}", required=one)
        for number, one in enumerate(builds)
    ]
    publish, trace = Job(anyio.sleep, 4, label="publish", required=tests), Trace()
    Scheduler(
        fetches,
        builds,
        tests,
        publish,
        label="distribution",
        jobs_window=12,
        pool=Pool(mem=14),
    ).run(
        backend="asyncio",
        backend_options=virtual_options("asyncio"),
        instruments=[trace],
    )
    save_timeline(trace, "slots")


def names_of_the_page(page: str) -> dict[str, Any]:
    """Run the first block of a page, and return what it defines."""
    block = re.search(
        r"^```python\n(.*?)^```$",
        (DOCS / page).read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)
    return names


def draw_orders() -> None:
    """Draw the timelines of the scenario of explained/order.md under two policies, to one scale."""
    release = names_of_the_page("explained/order.md")["release"]
    found = {policy: simulate(release(policy)) for policy in ("fifo", "critical-path")}
    margins, pixels_a_second = 124, 0.55
    for policy, one in found.items():
        width = round(margins + pixels_a_second * one.makespan)
        save_timeline(one.timeline, f"order-{policy}", width)


def draw_graph_of_the_page() -> None:
    """Draw the scheduler of looking/graph.md."""
    scheduler = names_of_the_page("looking/graph.md")["scheduler"]
    scheduler.run()
    save(scheduler, PICTURES / "graph.svg")


def draw_states() -> None:
    """Draw the steps between the states of a job, from the table along which they are written."""
    steps = graphviz.Digraph(
        graph_attr={
            "nodesep": "0.3",
            "ranksep": "0.7",
            "pad": "0.15",
            "bgcolor": "transparent",
        }
    )
    idle = _drawing.color_attributes(STATE_STYLES[JobState.IDLE].colors)
    steps.attr(
        "node",
        shape="box",
        style="rounded,filled",
        fontname="Helvetica,Arial,sans-serif",
        fontsize="11",
        **idle,
    )
    line = _dot.LINE_COLOR
    steps.attr(
        "edge",
        color=line,
        fontcolor=line,
        fontname="Helvetica,Arial,sans-serif",
        fontsize="9",
    )
    for old, edges in TRANSITIONS.items():
        steps.node(
            old.name,
            f"{STATE_STYLES[old].symbol} {old.name}",
            penwidth="1" if edges else "2",
        )
        for event, new in edges.items():
            steps.edge(old.name, new.name, f" {event} ")
    (PICTURES / "states.svg").write_bytes(
        _dot.render(steps.source, "svg", "the states")
    )


def draw_mosaic() -> None:
    """Draw the workflow of `examples/wfcommons.py`."""
    scheduler = imported(DOCS.parent / "examples" / "wfcommons.py").scenario()
    save(scheduler, PICTURES / "mosaic.svg")


def draw_examples() -> None:
    """Draw the timelines of two examples, and the graph of a third, as `examples.md` shows them."""
    examples, trace = DOCS.parent / "examples", Trace()
    imported(examples / "paid.py").scenario(calls=40).run(instruments=[trace])
    save_timeline(trace, "example-paid")
    for name, option in (("checkers", "--timeline"), ("crawler", "--graph")):
        command = [
            sys.executable,
            examples / f"{name}.py",
            option,
            PICTURES / f"example-{name}.svg",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


# ---------------------------------------------------------------- monitor and report


SHOWN = """
import logging, runpy
from trioflow import Monitor, Trace
from trioflow.view import save

logging.disable()
scheduler, trace = runpy.run_path("docs/release.py")["scenario"](), Trace()
scheduler.run(instruments=[Monitor(), trace])
save(trace, "docs/pictures/release-timeline.svg")
save(trace, {report!r})
"""
"""What `trioflow run docs/release.py` does, with a timeline of the same run."""


def show_release() -> None:
    """Draw the graph and the timeline of one run, and photograph its monitor and its report."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "release.html"
        program = [sys.executable, "-c", SHOWN.format(report=str(report))]
        screen = run_in_a_terminal("docs/release.py", DOCS.parent, RELEASE, program)
        with chromium() as browser:
            photograph_screen(browser, screen, "monitor")
            photograph_page(browser, report, "report", 1240, 900)


def show_tutorial() -> None:
    """Draw the timeline of the tutorial's program with retries, and graph, monitor and report of its last one."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    programs = re.findall(
        r"`weather.py`:\n\n```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    )
    with tempfile.TemporaryDirectory() as name:
        file, trace = Path(name) / "weather.py", Trace()
        file.write_text(programs[-2], encoding="utf-8")
        imported(file).scenario().run(instruments=[trace])
        save_timeline(trace, "tutorial-timeline")
        file.write_text(programs[-1], encoding="utf-8")
        save(imported(file).scenario(), PICTURES / "tutorial-graph.svg")
        program = [
            sys.executable,
            "-m",
            "trioflow",
            "run",
            file.name,
            "--report",
            "weather.html",
        ]
        screen = run_in_a_terminal(file.name, file.parent, WEATHER, program)
        with chromium() as browser:
            photograph_screen(browser, screen, "tutorial-monitor")
            photograph_page(
                browser, file.with_suffix(".html"), "tutorial-report", 1240, 800
            )


def show_page() -> None:
    """Photograph the page of the release when it is held, as a test has failed, and the test is mended."""
    folder = Path(tempfile.mkdtemp())
    file = folder / "release.py"
    code = (DOCS / "release.py").read_text(encoding="utf-8")
    file.write_text(code, encoding="utf-8")
    options = ["--no-monitor", "--web", "--hold", str(file), "--set", "speed=3"]
    program = [sys.executable, "-m", "trioflow", "run", *options]
    pipes: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with (
        chromium() as browser,
        subprocess.Popen(program, cwd=folder, **pipes) as process,
    ):
        metrics = {
            "width": 1240,
            "height": 830,
            "deviceScaleFactor": 1.25,
            "mobile": False,
        }
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get(process.stderr.readline().split()[-1])  # type: ignore[union-attr]
        for wanted in ("held", "with the mended code"):
            while wanted not in browser.find_element("tag name", "body").text:
                time.sleep(0.1)
            time.sleep(1)
            file.write_text(
                code.replace(
                    'raise AssertionError("2 of 31 pages did not load")',
                    'print("31 pages loaded")',
                )
            )
        for suffix, scheme in (("", "light"), ("-dark", "dark")):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": features}
            )
            time.sleep(1)  # colours change slowly
            assert browser.save_screenshot(str(PICTURES / f"page{suffix}.png"))
        process.kill()


def run_in_a_terminal(
    file: str, directory: Path, wanted: list[str], program: list[str]
) -> pyte.Screen:
    """Run a program as if by `trioflow run`, and return the screen of its terminal when it has the lines wanted."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"}
    environment.pop("NO_COLOR", None)
    stream.feed(f"$ trioflow run {file}\r\n".encode())
    with subprocess.Popen(
        program, stdin=its, stdout=its, stderr=its, cwd=directory, env=environment
    ) as process:
        os.close(its)
        while not all(
            any(re.search(line, shown) for shown in screen.display) for line in wanted
        ):
            stream.feed(os.read(ours, 65536))
        while read_on(ours):
            pass
        process.wait()
    os.close(ours)
    return screen


def read_on(terminal: int) -> bool:
    """Read what is written to a terminal; return False at its end, which Linux reports as an error."""
    try:
        return bool(os.read(terminal, 65536))
    except OSError:
        return False


# ---------------------------------------------------------------- the screen of a terminal as a page

DAY = {
    "default": "#1f2933", "red": "#c1272d", "green": "#1d7a3e", "yellow": "#946200", "brown": "#946200",
    "blue": "#1f5fbf", "cyan": "#0b7285",
}  # fmt: skip
NIGHT = {
    "default": "#d5dae1", "red": "#ff6b60", "green": "#7fcf9a", "yellow": "#ffd95a", "brown": "#ffd95a",
    "blue": "#79b8ff", "cyan": "#76d9e6",
}  # fmt: skip
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; }}
pre {{ display: inline-block; margin: 0; padding: 14px 18px; background: {ground}; color: {ink};
       font: 14px/1.3 "DejaVu Sans Mono", monospace; }}
.bold {{ font-weight: 700; }}
</style><pre>{text}</pre>"""


def as_page(screen: pyte.Screen, colours: dict[str, str], ground: str) -> str:
    lines = [
        "".join(spans(screen.buffer[y], screen.columns, colours))
        for y in range(screen.lines)
    ]
    return PAGE.format(
        ground=ground, ink=colours["default"], text="\n".join(lines).rstrip()
    )


def spans(line: Any, columns: int, colours: dict[str, str]) -> Iterator[str]:
    """Yield adjacent text of one colour; the second cell of a wide character is empty."""
    for (colour, bold), cells in groupby(
        (line[x] for x in range(columns)), lambda cell: (cell.fg, cell.bold)
    ):
        text = html.escape("".join(cell.data for cell in cells))
        shown = colours.get(colour, f"#{colour}")
        yield (
            f'<span class="{"bold" * bold}" style="color: {shown}">{text}</span>'
            if text.strip()
            else text
        )


# ---------------------------------------------------------------- photographs


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for switch in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ):
        options.add_argument(switch)
    browser = webdriver.Chrome(options=options)
    try:
        yield browser
    finally:
        browser.quit()


def photograph_screen(
    browser: webdriver.Chrome, screen: pyte.Screen, name: str
) -> None:
    """Save two pictures, for light and for dark pages."""
    for suffix, colours, ground in (("", DAY, "#f3f4f6"), ("-dark", NIGHT, "#171b21")):
        with tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8") as file:
            file.write(as_page(screen, colours, ground))
            file.flush()
            page = Path(file.name)
            photograph(
                browser,
                page,
                PICTURES / f"{name}{suffix}.png",
                *size_of_the_terminal(browser, page),
            )


def size_of_the_terminal(browser: webdriver.Chrome, page: Path) -> tuple[int, int]:
    browser.get(page.as_uri())
    box = browser.execute_script(
        "return document.querySelector('pre').getBoundingClientRect()"
    )
    return round(box["width"]), round(box["height"])


def photograph_page(
    browser: webdriver.Chrome, page: Path, name: str, width: int, height: int
) -> None:
    """Save two pictures of a page that has a light and a dark scheme."""
    for suffix, scheme in (("", "light"), ("-dark", "dark")):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        photograph(browser, page, PICTURES / f"{name}{suffix}.png", width, height)


def photograph(
    browser: webdriver.Chrome,
    page: Path,
    picture: Path,
    width: int,
    height: int,
    scale: float = 1.25,
) -> None:
    """Save what a window of this size shows of a page, somewhat sharper than necessary."""
    metrics = {
        "width": width,
        "height": height,
        "deviceScaleFactor": scale,
        "mobile": False,
    }
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
    assert browser.save_screenshot(str(picture))


# ---------------------------------------------------------------- the command

DRAWN = {
    "release": show_release,
    "page": show_page,
    "orders": draw_orders,
    "graph": draw_graph_of_the_page,
    "slots": draw_slots,
    "states": draw_states,
    "mosaic": draw_mosaic,
    "examples": draw_examples,
    "tutorial": show_tutorial,
}


def main() -> None:
    logging.disable()  # of the failures that the scenarios have on purpose
    for name in sys.argv[1:] or DRAWN:
        DRAWN[name]()


if __name__ == "__main__":
    main()
