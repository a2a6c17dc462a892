"""The helpers of all text: how wide it is, what is escaped, how lists end, and which jobs a pattern selects."""

import pytest
from trioflow.view.text._selection import match_paths
from trioflow.view.text._symbols import (
    Symbols,
    align_columns,
    display_width,
    durations_in_column,
    escape_formula,
    listed_lines,
    terminal_text,
)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 0), ("abc", 3), ("漢字", 4), ("e\u0301", 1), ("a\u20dd", 1), ("👍🏽", 2),
        ("①§½│", 4), ("\uff41\u3000", 4), ("\uff71", 1),
    ],
)  # fmt: skip
def test_a_text_is_as_wide_as_a_terminal_draws_it(text: str, width: int) -> None:
    """Accents and rings take no column, nor does the tone of a skin; what is wide in East Asia alone takes one."""
    assert display_width(text) == width


@pytest.mark.parametrize(
    ("number", "lines"),
    [(0, []), (1, ["0"]), (2, ["0", "1"]), (3, ["0", "1", "and 1 more"]), (4, ["0", "1", "and 2 more"])],
)  # fmt: skip
def test_a_list_has_its_first_items_and_the_number_of_the_others(
    number: int, lines: list[str]
) -> None:
    assert listed_lines([str(each) for each in range(number)], 2) == lines


def test_cells_of_a_table_are_aligned_by_their_width() -> None:
    rows = [("a", "漢字", "1"), ("bb", "e\u0301", "100"), ("c", "", "20")]
    assert [*align_columns(rows, {0, 1})] == [
        "a   漢字    1",
        "bb  e\u0301     100",
        "c          20",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        ([], ("s", [])), ([None], ("s", [""])), ([9.9994], ("s", ["9.999"])), ([99.994, 1.0], ("s", ["99.99", "1.00"])),
        ([0.99949], ("ms", ["999.5"])), ([0.00099951], ("ms", ["1.000"])), ([1e-7], ("ns", ["100.0"])),
        ([-100.0, 1.0], ("min:s", ["-1:40.0", "0:01.0"])), ([100.0, 59.96], ("min:s", ["1:40.0", "1:00.0"])),
        ([3599.95, -59.6], ("h:min:s", ["1:00:00", "-0:01:00"])), ([-7322.0, 3], ("h:min:s", ["-2:02:02", "0:00:03"])),
        ([0.0096, 0.5], ("ms", ["9.6", "500.0"])),
    ],
)  # fmt: skip
def test_the_longest_time_of_a_column_decides_whatever_its_sign(
    seconds: list[float | None], shown: tuple[str, list[str]]
) -> None:
    assert durations_in_column(seconds) == shown


@pytest.mark.parametrize(
    "text",
    ["=a", "@x", "\tx", "-1a", "-", "= 1", "\uff1da", "+", "-1 2", "a;=b", "a\t=b", "a;-1;=c"],
)  # fmt: skip
def test_a_cell_that_may_be_a_formula_is_quoted(text: str) -> None:
    """Also behind a separator of another spreadsheet."""
    assert escape_formula(text).count("'") == 1
    assert escape_formula(text).replace("'", "") == text


@pytest.mark.parametrize("text", ["", "a=b", "a,=b", "-1", "+1.5e3", "-.5", ";-3", "-1 ;x"])  # fmt: skip
def test_a_number_and_what_is_no_formula_stay(text: str) -> None:
    assert escape_formula(text) == text


def test_text_for_a_terminal_keeps_colors_and_widens_tabs() -> None:
    text = "a\tb\n\x1b[31mx\ty\x1b[0m\x1b[2J\r"
    assert terminal_text(text, None) == (
        "a       b\n\x1b[31mx       y\x1b[0m\\x1b[2J\\r"
    )


def test_commands_of_github_are_stopped_there_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In any line; what is no command has nothing around it."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert terminal_text("::error::x", None) == "::error::x"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert terminal_text("a\nb:: c", None) == "a\nb:: c"
    for command in ("::error::x", "a\n  ::error::x", "a ##[group]"):
        first, *lines, last = terminal_text(command, None).split("\n")
        assert lines == command.split("\n")
        assert first.removeprefix("::stop-commands::") == last.strip(":")


@pytest.mark.parametrize(
    ("encoding", "forms"),
    [
        (None, "…≈ ·µs 漢"), ("utf-8", "…≈ ·µs 漢"), ("ascii", "...~,us \\u6f22"), ("latin-1", "...~,µs \\u6f22"),
        ("koi8-r", "...~,us \\u6f22"), ("no such", "...~,us \\u6f22"),
    ],
)  # fmt: skip
def test_symbols_are_all_of_unicode_or_all_of_ascii(
    encoding: str | None, forms: str
) -> None:
    symbols = Symbols(encoding)
    own = symbols.ellipsis + symbols.about_sign + symbols.separator.rstrip()
    assert own + symbols.encodable("µs 漢") == forms


PATHS = ["a", "a/b", "axb", "a/b\\/c", "a\nb", "f([1])", "xay", "b", "bcxbc"]


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("a", ["a"]), ("a/*", ["a/b", "a/b\\/c"]), ("*", PATHS), ("a?b", ["a/b", "axb", "a\nb"]), ("a\nb", ["a\nb"]),
        ("*b*c*", ["a/b\\/c", "bcxbc"]), ("*x", []), ("x*y", ["xay"]), ("[1]", []), ("*([1])", ["f([1])"]),
        ("a\\nb", ["a\nb"]), ("a/b\\/c", ["a/b\\/c"]), ("a/b/c", ["a/b\\/c"]), ("b*b", []), ("bc*bc", ["bcxbc"]),
        ("*\n*", ["a\nb"]), ("a*y", []),
    ],
)  # fmt: skip
def test_a_pattern_selects_the_paths_that_match_whole(
    pattern: str, matches: list[str]
) -> None:
    """A path that equals it is alone; otherwise, control characters and slashes may be written in each way."""
    assert match_paths({path: path for path in PATHS}, pattern) == matches
