"""A picture on a screen, redrawn by its changes, and safe output above it."""

from __future__ import annotations

import io
from typing import Any

import pyte
from hypothesis import given
from hypothesis import strategies as st

from trioflow.view.monitor._picture_renderer import _crop_line
from trioflow.view.monitor._terminal import Screen, strip_controls

COLUMNS, HEIGHT = 12, 8

PIECES = st.tuples(st.text("ab ━✓漢é", max_size=4), st.sampled_from(["", "red", "bold"]))
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
def test_the_screen_is_as_if_only_the_last_picture_had_been_written(sequence: list[tuple[Any, list[str]]]) -> None:
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
        assert looks[cursor[1] - height : cursor[1]] == expected[wanted[1] - height : wanted[1]]


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
    """`strip_controls` keeps tabs, and colours until the end of the line, and removes all other control sequences."""
    assert strip_controls("plain é漢 text") == "plain é漢 text"
    assert strip_controls("a\tb") == "a\tb"
    assert strip_controls("\x1b[1;31mred") == "\x1b[1;31mred\x1b[0m"
    assert strip_controls("\x1b[1;31mred\x1b[0m", keep_colors=False) == "red"
    assert strip_controls("\x1b[2Jclear\x1b[10;3Hed\x1b[?1049h") == "cleared"
    assert strip_controls("\x1b]0;title\x07text \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\") == "text link"
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
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in rest)
