"""The monitor on a terminal: the screen during and after a run, and the printed output of jobs."""

import io
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any
import anyio
import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import ColorType
from trioflow import Job, Monitor, Scheduler
from trioflow.view.monitor._output_buffer import (
    MAX_BUFFERED_CHARACTERS,
    BufferedStream,
    OutputBuffer,
)
from trioflow.view.monitor._picture_renderer import _crop_line
from trioflow.view.monitor._records import Ticker
from trioflow.view.monitor._terminal import (
    STYLES,
    Screen,
    TerminalDisplay,
    strip_controls,
)
from ...bodies import at_once, fail, nap, raising
from ...conftest import Virtual
from ...places import PATIENCE
from ..contrast import contrast
from .monitors import Terminal


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminals of these tests have 60 columns and 12 lines, whatever the tests run in."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "12")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def terminal() -> Terminal:
    """A terminal; `run` makes it standard output and error."""
    return Terminal(60, 12)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - of a screen, which tells nobody
            await anyio.sleep(0.002)


def run(terminal: Terminal, *jobs: Any, backend: Any = "trio") -> bool:
    with terminal.standard():
        return Scheduler(*jobs, label="run", instruments=[Monitor()]).run(
            backend=backend
        )


def test_the_last_picture_stays_on_the_screen_after_the_run(
    terminal: Terminal, backend: str
) -> None:
    """After a run the last picture stays on the screen, with the verdict, and the cursor is visible below it."""

    async def look() -> None:
        await until(lambda: "1 running" in "".join(terminal.shown()))
        assert terminal.screen.cursor.hidden

    looks = Job(look, label="look")
    assert run(terminal, looks, backend=backend)
    looks.result()
    lines = terminal.shown()
    assert lines[0].startswith(" run  ✓ ")
    assert lines[1].endswith("  look")
    assert not terminal.screen.cursor.hidden
    assert (terminal.screen.cursor.x, terminal.screen.cursor.y) == (0, 2)
    assert "\x1b[?1049" not in terminal.getvalue()


def test_a_terminal_of_unknown_size_is_assumed_to_have_24_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A terminal of unknown size counts as 24 lines high, because a picture too high for it would scroll."""
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name)
    drawn: list[tuple[int, int]] = []
    display = TerminalDisplay(Terminal(), lambda *size: drawn.append(size) or [])
    display.start()
    display.stop()
    assert drawn == [(80, 23)]


def test_prints_of_jobs_are_above_the_picture(terminal: Terminal, backend: str) -> None:
    """Lines that jobs print or log, on standard output and error, are above the picture, whole and in order."""
    handler = logging.StreamHandler(terminal)
    logger = logging.getLogger("test of the monitor")
    logger.addHandler(handler)

    async def say() -> None:
        await until(lambda: len(terminal.shown()) >= 3)
        for number in range(30):
            print("line", number, file=sys.stderr if number % 2 else sys.stdout)
        logger.warning("logged")
        print("\x1b[31mred\x1b[0m", "not \x1b[2Jcleared")
        print("10 %\r20 %\r", end="")
        print("\r30 %")
        print("x" * 130)
        print("unfinished", end="")
        await until(
            lambda: (
                "red" in "".join(terminal.shown()) and "running" in terminal.shown()[-2]
            )
        )

    says = Job(say, label="say")
    assert run(terminal, says, backend=backend)
    says.result()
    logger.removeHandler(handler)
    assert handler.stream is terminal
    above = [f"line {number}" for number in range(30)]
    above += [
        "logged",
        "red not cleared",
        "30 %",
        "x" * 60,
        "x" * 60,
        "x" * 10,
        "unfinished",
    ]
    assert terminal.all_lines()[: len(above)] == above
    assert terminal.all_lines()[len(above)].startswith(" run  ✓ ")


def test_text_that_the_terminal_cannot_encode_fails_in_the_printing_job() -> None:
    terminal = Terminal(60, 12, encoding="latin-1")
    escaping = BufferedStream(
        OutputBuffer(lambda: None, lambda: None),
        io.TextIOWrapper(io.BytesIO(), "latin-1", "backslashreplace"),
    )
    escaping._buffer._owner_pid = os.getpid()
    escaping.write("漢é\n")
    assert escaping._buffer.take_lines() == ["\\u6f22é"]
    says = Job(at_once, lambda: print("漢"), label="say")
    assert not run(terminal, says, Job(nap, 0.03))
    assert isinstance(says.raised_exception(), UnicodeEncodeError)
    assert terminal.shown()[0].startswith(" run  x 1 failed of 2, ")


def test_a_thread_that_prints_too_much_waits_for_the_terminal() -> None:
    """Printed lines are buffered, and a thread that fills the buffer has to write them to the terminal."""
    told: list[str] = []
    above = OutputBuffer(
        lambda: told.append("wake"),
        lambda: told.append(f"write out {len(above.take_lines())}"),
    )
    for _ in range(3):
        above.add_lines(["x" * (MAX_BUFFERED_CHARACTERS // 2)])
        above.schedule_update()
    assert told == ["wake", "write out 2", "wake"]


def test_who_draws_does_not_wait_for_a_thread_that_adds_a_line(
    terminal: Terminal,
) -> None:
    """Ctrl-Z may interrupt that thread, and its handler waits for who draws: the program hung."""
    display = TerminalDisplay(terminal, lambda columns, height: [])
    display._buffer.write("printed\n")
    drawing = threading.Thread(target=display._redraw)
    with display._buffer._lock:
        drawing.start()
        drawing.join(PATIENCE)
        assert not drawing.is_alive()
        with display.pause():
            assert terminal.shown() == ["printed"]


def test_a_kept_reference_to_the_replaced_stdout_works_after_the_run(
    terminal: Terminal,
) -> None:
    """A reference to the monitor's replacement of `sys.stdout` writes to the real stream after the run."""
    kept: list[Any] = []

    async def keep() -> None:
        assert isinstance(sys.stdout, BufferedStream)
        assert (sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.writable()) == (
            "utf-8",
            True,
            True,
        )
        kept.append(sys.stdout)

    keeps = Job(keep)
    assert run(terminal, keeps)
    assert keeps.is_succeeded()
    print("afterwards", file=kept[0], flush=True)
    assert terminal.shown()[-1] == "afterwards"


def test_a_stdout_replaced_by_a_job_stays_after_the_run(terminal: Terminal) -> None:
    other = io.StringIO()

    async def replace() -> None:
        sys.stdout = other

    with terminal.standard():
        Scheduler(Job(replace), instruments=[Monitor()]).run()
        assert sys.stdout is other
        assert sys.stderr is terminal


def test_a_forked_process_prints_to_the_real_stream(terminal: Terminal) -> None:
    above = OutputBuffer(lambda: None, lambda: None)
    with terminal.standard():
        above.replace_terminal_streams()
        above._owner_pid = os.getpid() + 1
        print("from the fork", flush=True)
        above._owner_pid = os.getpid()
        above.restore_streams()
    assert terminal.shown() == ["from the fork"]


def test_an_unchanged_picture_is_not_written(terminal: Terminal) -> None:
    lines = [[("one", "")], [("two", "failed")]]
    screen = TerminalDisplay(terminal, lambda columns, height: list(lines))
    screen._redraw()
    before = terminal.writes
    screen._redraw()
    assert terminal.writes == before
    lines[1] = [("three", "done")]
    screen._redraw()
    assert terminal.writes > before


def test_the_ticker_makes_one_call_for_several_events() -> None:
    """Several events in quick succession lead to one call of the ticker's function, soon after them."""
    called = threading.Event()
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        called.set()

    ticker = Ticker(call, 0, 1e6)
    ticker.start()
    ticker.wake()
    ticker.wake()
    assert called.wait(PATIENCE)
    ticker.stop()
    assert 1 <= len(calls) <= 2


def test_no_color_removes_colours_and_keeps_bold_text(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not run(terminal, Job(fail, 0.001, label="bad"))
    assert "\x1b[1;38;5;196m" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    start = terminal.tell()
    assert not run(terminal, Job(fail, 0.001, label="bad"))
    assert "\x1b[1m" in terminal.getvalue()[start:]
    assert "38;5" not in terminal.getvalue()[start:]


class Gone(Terminal):
    """A terminal that goes away after some writes."""

    left = 4

    def write(self, text: str, /) -> int:
        self.left -= 1
        if self.left < 0:
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize("left", range(5))
def test_a_broken_output_stream_does_not_stop_the_run(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    backend: str,
    left: int,
    term: str,
) -> None:
    """Whichever write to the terminal fails, the run continues to its end, and nothing is logged."""
    monkeypatch.setenv("TERM", term)
    gone = Gone()
    gone.left = left
    monitor = Monitor(file=gone)
    scheduler = Scheduler(
        *(Job(nap, 0.001 * number) for number in range(10)), instruments=[monitor]
    )
    assert scheduler.run(backend=backend) is True
    assert caplog.records == []


def test_a_job_that_closes_the_output_stream_does_not_stop_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    terminal = Terminal()
    assert Scheduler(
        Job(at_once, terminal.close),
        Job(nap, 0.03),
        instruments=[Monitor(file=terminal)],
    ).run()
    assert caplog.records == []


def test_an_error_in_drawing_is_logged_once(
    terminal: Terminal,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an error in drawing, the run continues, the cursor is shown again, and no printed text is lost."""
    monkeypatch.setattr(
        "trioflow.view.monitor._run_header.RunHeader.lines",
        raising(LookupError("in the drawing")),
    )

    async def say() -> None:
        print("said")
        await until(lambda: bool(caplog.records))

    assert run(terminal, Job(say))
    assert [record.getMessage()[:43] for record in caplog.records] == [
        "the monitor could not draw a picture, and d"
    ]
    assert not terminal.screen.cursor.hidden
    assert "said" in terminal.shown()


def test_a_second_monitor_on_a_terminal_writes_lines(terminal: Terminal) -> None:
    inner = Scheduler(
        Job(nap, 0.01, label="job"), label="inner", instruments=[Monitor()]
    )
    assert run(terminal, inner)
    lines = terminal.all_lines()
    assert [line[9:28].strip() for line in lines[:4]] == [
        "inner: 1 job", "start     job", "succeeded job  " + lines[2][24:28].strip(), "inner  ✓ 1 job succ"
    ]  # fmt: skip
    assert lines[4].startswith(" run  ✓ ")


def test_a_monitor_works_without_standard_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler = Scheduler(Job(nap, 0), instruments=[Monitor()])
    monkeypatch.setattr(sys, "stdout", None)
    assert scheduler.run()


def test_prints_are_written_above_an_up_to_date_picture(terminal: Terminal) -> None:
    """Each print is written with a new picture below it: otherwise jobs that print all the time would freeze it."""
    pictures = iter(["first", "second", "third"])
    screen = TerminalDisplay(terminal, lambda columns, height: [[(next(pictures), "")]])
    screen._redraw()
    screen._buffer._lines.append("said")
    screen._redraw()
    assert terminal.shown() == ["said", "second"]
    screen._redraw()
    assert terminal.shown() == ["said", "third"]
    screen._release_terminal()


def test_narrowing_the_terminal_erases_the_old_picture(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = TerminalDisplay(
        terminal, lambda columns, height: [[("x" * min(50, columns), "")]] * 2
    )
    screen._redraw()
    terminal.screen.reset()
    terminal.screen.set_mode(pyte.modes.LNM)
    terminal.screen.resize(12, 30)
    terminal.write(
        "above\n" + "".join(["x" * 30 + "\n" + "x" * 20 + "\n"] * 2)
    )  # what a terminal makes of it
    monkeypatch.setattr(screen, "_terminal_size", lambda: (30, 12))
    screen._redraw()
    assert terminal.shown() == ["above", "x" * 30, "x" * 30]
    screen._release_terminal()


# --- the colours of the monitor: important text is readable on every background and with every palette

GROUNDS = {
    "xterm, dark": "#000000", "xterm, light": "#ffffff", "VS Code, dark": "#1e1e1e", "VS Code, light": "#ffffff",
    "GNOME, dark": "#171421", "GNOME, light": "#ffffff",
    "JupyterLab, dark": "#111111", "JupyterLab, light": "#ffffff",
}  # fmt: skip
COLOURED = [name for name, style in STYLES.items() if style.color is not None]


@pytest.mark.parametrize("ground", GROUNDS)
def test_symbols_and_bars_have_enough_contrast_on_every_background(ground: str) -> None:
    """The monitor's symbols and bars have a contrast of at least 3, in colours that no palette changes."""
    for name in COLOURED:
        colour: Any = STYLES[name].color
        assert colour.type is ColorType.EIGHT_BIT, name
        assert colour.number >= 16, (
            f"{name}: the first sixteen differ from palette to palette"
        )
        assert contrast(colour.get_truecolor().hex, GROUNDS[ground]) >= 3, name


def test_no_style_is_dimmed() -> None:
    """No style of the monitor is dimmed, because dimmed text is unreadable on some terminals."""
    assert not any(style.dim for style in STYLES.values())


def test_only_symbols_bars_and_the_verdict_are_coloured(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the monitor's picture, letters and digits below the verdict have the terminal's default colour."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    inner = Scheduler(
        Job(fail, label="bad"), Job(nap, label="good"), label="inner", critical=True
    )
    scheduler = Scheduler(
        inner,
        Job(nap, 9, label="w", forever=True),
        Job(nap, 2, inner.required, label="last"),
    )
    virtual(Scheduler(scheduler, instruments=[Monitor(file=terminal)]).co_run)
    cells = [terminal.screen.buffer[y][x] for y in range(24) for x in range(80)]
    assert {cell.fg for cell in cells[:80] if cell.bold and cell.data.isalnum()} == {
        "default",
        "ff0000",
    }
    assert {cell.fg for cell in cells[80:] if cell.data.isalnum()} == {"default"}
    symbols = [
        cell
        for number, cell in enumerate(cells)
        if cell.data in "✓✗" and number % 80 < 5
    ]
    assert {cell.fg for cell in symbols} == {"00875f", "ff0000"}


# --- a picture on a screen, redrawn by its changes, and safe output above it

COLUMNS, HEIGHT = 12, 8

PIECES = st.tuples(
    st.text("ab ━✓漢é", max_size=4), st.sampled_from(["", "red", "bold"])
)
LINES = st.lists(PIECES, max_size=3).map(lambda line: _crop_line(line, COLUMNS))
PICTURES = st.lists(LINES, max_size=HEIGHT - 1)
ABOVE = st.lists(st.text("xyz", max_size=2 * COLUMNS), max_size=3)
SEQUENCES = st.lists(st.tuples(PICTURES, ABOVE), max_size=8)

CODES = {"": "", "red": "\x1b[31m", "bold": "\x1b[1m"}


def render(text: str, style: str) -> str:
    return f"{CODES[style]}{text}\x1b[0m" if style else text


def shown(text: str) -> tuple[Any, ...]:
    """Return the characters on a terminal with their styles, and the position of its cursor."""
    screen = pyte.HistoryScreen(COLUMNS, HEIGHT, history=1000)
    screen.set_mode(pyte.modes.LNM)
    pyte.Stream(screen).feed(text)
    cells = [[screen.buffer[y][x] for x in range(COLUMNS)] for y in range(HEIGHT)]
    looks = [[(cell.data, cell.fg, cell.bold) for cell in row] for row in cells]
    return looks, (screen.cursor.x, screen.cursor.y), len(screen.history.top)


@given(SEQUENCES)
def test_the_screen_is_as_if_only_the_last_picture_had_been_written(
    sequence: list[tuple[Any, list[str]]],
) -> None:
    file = io.StringIO()
    screen = Screen(file, render)
    everything: list[str] = []
    last: Any = []
    for last, above in sequence:
        screen.update(last, (COLUMNS, HEIGHT), above)
        everything += above
    plain = "".join(line + "\n" for line in everything)
    plain += "".join("".join(render(*piece) for piece in line) + "\n" for line in last)
    looks, cursor, gone = shown(file.getvalue())
    expected, wanted, _ = shown(plain)
    if not gone:
        assert (looks, cursor) == (expected, wanted)
    else:  # a picture that has become lower since it had scrolled up stays where it is
        height = len(last)
        assert (
            looks[cursor[1] - height : cursor[1]]
            == expected[wanted[1] - height : wanted[1]]
        )


def test_only_the_changed_lines_of_a_picture_are_written() -> None:
    file = io.StringIO()
    screen = Screen(file, render)
    lines = [[("x" * 60, "red")], [(f"{number:>60}", "") for number in (7,)]]
    screen.update(lines, (80, 24))
    start = file.tell()
    screen.update(lines, (80, 24))
    assert file.tell() == start
    screen.update([lines[0], [(f"{8:>60}", "")]], (80, 24))
    written = file.getvalue()[start:]
    assert "8" in written
    assert "x" not in written
    assert len(written) < 60 + 40


def test_an_echo_below_the_picture_does_not_shift_later_lines() -> None:
    """The `^C` that a terminal echoes below the picture once shifted the next line above it by two columns."""
    file = io.StringIO()
    screen = Screen(file, render)
    picture = [[("a run", "")], [("a job", "")]]
    screen.update(picture, (COLUMNS, HEIGHT))
    file.write("^C")
    screen.update(picture, (COLUMNS, HEIGHT), ["SIGINT"])
    assert shown(file.getvalue()) == shown("SIGINT\na run\na job\n")


def test_strip_controls_keeps_colours_and_tabs_only() -> None:
    assert strip_controls("plain é漢 text") == "plain é漢 text"
    assert strip_controls("a\tb") == "a\tb"
    assert strip_controls("\x1b[1;31mred") == "\x1b[1;31mred\x1b[0m"
    assert strip_controls("\x1b[1;31mred\x1b[0m", keep_colors=False) == "red"
    assert strip_controls("\x1b[2Jclear\x1b[10;3Hed\x1b[?1049h") == "cleared"
    assert (
        strip_controls("\x1b]0;title\x07text \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\")
        == "text link"
    )
    assert strip_controls("a\x07\x08\x0e\x0b\x7f\x9b2Jb\x1bc\x1b(0") == "a2Jb"


@given(st.binary(max_size=200))
def test_strip_controls_makes_any_binary_output_safe(data: bytes) -> None:
    """Of any bytes that a child writes, only colours, tabs and printable text are left."""
    line = strip_controls(data.decode("utf-8", "replace").replace("\n", ""))
    rest = line.replace("\t", "")
    while "\x1b[" in rest:
        before, _, after = rest.partition("\x1b[")
        code, _, after = after.partition("m")
        assert set(code) <= set("0123456789;:")
        rest = before + after
    assert not any(
        ord(character) < 32 or 127 <= ord(character) < 160 for character in rest
    )
