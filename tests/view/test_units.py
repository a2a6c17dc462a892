"""Durations and sizes have one form in all views, logs and errors."""

import io
import json
import os
from pathlib import Path
import pytest
from click.testing import CliRunner
from trioflow import Job, Monitor, Scheduler, ThreadJob
from trioflow._core.base._amounts import amount_of
from trioflow._core.base._text_forms import (
    UNITS,
    duration_text,
    headline,
    short_repr,
    size_text,
)
from trioflow.cli._commands import command
from trioflow.view.monitor._run_header import elapsed_text, estimate_text
from trioflow.view.text._symbols import Symbols, durations_in_column
from ..bodies import fail, nap
from ..cli.command_line import unchanged_process, written
from ..conftest import Virtual
from .monitor.monitors import Terminal


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (1e-12, "0 s"), (1e-9, "1 ns"), (2.5e-7, "250 ns"), (1.25e-5, "12.5 µs"), (0.000_999_9, "1 ms"),
        (0.0123, "12.3 ms"), (0.1004, "100 ms"), (0.9995, "1 s"), (0.9999, "1 s"), (1.2345, "1.23 s"), (9.9951, "10 s"),
        (9.999, "10 s"), (10.27, "10.3 s"), (59.94, "59.9 s"), (59.95, "1 min"), (59.96, "1 min"), (61, "1 min 01 s"),
        (750, "12 min 30 s"), (3599.7, "1 h"), (11_100, "3 h 05 min"), (86_399, "1 d"), (187_200, "2 d 04 h"),
        (-1.5, "-1.5 s"),
    ],
)  # fmt: skip
def test_a_duration_has_three_significant_figures(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.0, "9.0 s"), (0.0995, "99.5 ms"), (9.995e-5, "100 µs"), (0.1004, "100 ms")],
)
def test_a_duration_in_a_column_has_a_decimal_below_a_hundred(
    seconds: float, text: str
) -> None:
    assert duration_text(seconds, in_column=True) == text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        ([2e-9, None, 1.5e-9], ("ns", ["2.000", "", "1.500"])), ([0, None], ("s", ["0.000", ""])),
        ([0.5], ("ms", ["500.0"])), ([0.099995], ("ms", ["100.0"])), ([0.9995], ("s", ["1.000"])),
        ([9.9995], ("s", ["10.00"])), ([99.99], ("s", ["99.99"])), ([99.995], ("min:s", ["1:40.0"])),
        ([100, 0, -1], ("min:s", ["1:40.0", "0:00.0", "-0:01.0"])), ([3599.94], ("min:s", ["59:59.9"])),
        ([3599.95], ("h:min:s", ["1:00:00"])),
    ],
)  # fmt: skip
def test_longest_time_decides_the_unit_of_a_column(
    seconds: list[float | None], shown: tuple[str, list[str]]
) -> None:
    """The longest time in a column decides on the unit, and has at most four digits, never a rounded thousand."""
    assert durations_in_column(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-0.1, "0 s"),
        (0.9, "0 s"),
        (9.9, "9 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (61, "1 min 01 s"),
    ],
)
def test_the_elapsed_time_of_a_run_is_in_whole_seconds(
    seconds: float, said: str
) -> None:
    assert elapsed_text(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "1 s"), (0.2, "1 s"), (7.3, "8 s"), (11, "15 s"), (118, "2 min"), (121, "2 min 30 s"), (601, "11 min"),
        (7200, "2 h"),
    ],
)  # fmt: skip
def test_estimates_are_rounded_up_to_coarse_steps(seconds: float, said: str) -> None:
    """Estimates are rounded up, below 10 s to whole seconds, longer ones to 5 s, 30 s or whole minutes."""
    assert estimate_text(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5_872_025, "5.6 MiB"), (4 << 30, "4 GiB"),
        (1 << 60, "1024 PiB"),
    ],
)  # fmt: skip
def test_sizes_have_binary_units(number: int, said: str) -> None:
    """Sizes are shown in powers of 1024 with their IEC names, as in `needs=` and pools."""
    assert size_text(number) == said


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10**400, "<a whole number of about 401 digits>"),
        (10**40, "<a whole number of about 41 digits>"),
        (1 - 10**40, "-" + "9" * 40),
        (set(range(99)), "{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...}"),
        (frozenset(range(99)), "frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...})"),
        ("a" * 1000, "'" + "a" * 47 + "..." + "a" * 48 + "'"),
    ],
)
def test_reprs_of_huge_values_are_shortened(value: object, text: str) -> None:
    """Converting a huge number to a string takes a long time, or even raises, so its repr is shortened."""
    assert short_repr(value) == text


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("one line. And more:", "one line. And more:"),
        ("exit code 1: make. Its output ended with:\nno rule", "exit code 1: make"),
        ("one. Two\nthree", "one. Two"),
    ],
)
def test_a_headline_omits_a_phrase_that_introduces_the_next_line(
    text: str, first: str
) -> None:
    assert headline(text) == first


@pytest.mark.parametrize("text", ["much", "4 parsecs", "4 xB", ""])
def test_an_invalid_size_raises_with_the_list_of_units(text: str) -> None:
    with pytest.raises(ValueError, match=r"^mem: write a number and a unit: B, kB"):
        amount_of(text, "mem")


# --- each view reaches its end on a stream that lacks its characters, such as the sign of microseconds

ENCODINGS = ["ascii", "koi8-r", "cp437", "cp866", "latin-1", "utf-8"]
DURATIONS = [3.17 * size for size, _ in UNITS] + [190.0, 11_100.0, 187_200.0]


class Stream(io.TextIOWrapper):
    """A file that refuses what its encoding lacks, as a terminal with this encoding does."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", newline="")

    def text(self) -> str:
        self.flush()
        return self.detach().getvalue().decode(self.encoding)  # type: ignore[attr-defined]


def scenario(seconds: float, *monitors: Monitor) -> Scheduler:
    first = Job(nap, seconds, label="漢 é")
    bad = Job(fail, seconds, OSError("漢 µs"), retry=1, label="bad")
    nested = Scheduler(
        Job(nap, seconds, label="in"),
        Job(nap, seconds * 9, timeout=seconds, on_timeout="move_on"),
        label="group",
    )
    jobs = [
        first, bad, nested, Job(nap, 1, required=bad, label="blocked"), Job(nap, 9e9, forever=True, label="forever"),
    ]  # fmt: skip
    return Scheduler(*jobs, Job(fail, seconds, required=(first, nested), critical=True, label="last"), label="night",
                     instruments=monitors)  # fmt: skip


@pytest.mark.sampled
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_view_says_all_with_each_unit_in_each_encoding(
    virtual: Virtual, encoding: str
) -> None:
    """Once a monitor was silent from the first job on that took microseconds, also about the failure at the end."""
    for seconds in DURATIONS:
        log, terminal, printed = (
            Stream(encoding),
            Terminal(encoding=encoding),
            Stream(encoding),
        )
        scheduler = scenario(seconds, Monitor(file=log), Monitor(file=terminal))
        assert not virtual(scheduler.co_run)
        scheduler.list(file=printed)
        scheduler.list(file=printed, details=True)
        scheduler.debrief(file=printed)
        for text in (log.text(), terminal.getvalue(), printed.text()):
            assert "last" in text
            assert "failed" in text
            assert "\\xb5" not in text


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_duration_of_each_unit_and_sign_can_be_written(encoding: str) -> None:
    """Where the sign of microseconds is lacking, their unit is `us`, with each sign, in texts and above columns."""
    symbols = Symbols(encoding)
    lacks = encoding in ("ascii", "koi8-r", "cp866")
    for seconds in [*DURATIONS, *(-duration for duration in DURATIONS)]:
        for text in (
            duration_text(seconds),
            duration_text(seconds, in_column=True),
            durations_in_column([seconds])[0],
        ):
            expected = text.replace("µs", "us") if lacks else text
            assert symbols.escape(text) == symbols.encodable(text) == expected
            assert expected.encode(encoding).decode(encoding) == expected


@pytest.mark.sampled
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_command_says_all_in_each_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(
        tmp_path,
        """
        a = Job(work, label="漢 é µs")
        scheduler = Scheduler(a, Job(fail, required=a, label="bad"), label="night")
        """,
    )

    def output(*words: str, code: int = 0) -> str:
        with unchanged_process():
            done = CliRunner(catch_exceptions=False, charset=encoding).invoke(
                command, words, prog_name="trioflow"
            )
        assert done.exit_code == code, done.output
        assert "\\xb5" not in done.output
        return done.output

    for trace in ("a.json", "b.json"):
        assert "1 failed" in output(
            "run", path, "--journal", "run.db", "--trace", trace, code=3
        )
    assert "1 failed" in output("run", path, "--no-monitor", code=3)
    assert "bad" in output("list", path)
    assert "night" in output("journal", "run.db")
    assert "night" in output("compare", "a.json", "b.json")
    assert "a\n" in output("batch", "echo {}", ":::", "a", "µs é 漢")
    assert "failed" in output("batch", "false {}", ":::", "é 漢", code=1)


@pytest.mark.sampled
@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize("encoding", ["ascii", "koi8-r", "utf-8"])
def test_a_look_says_all_in_each_encoding(encoding: str) -> None:
    """A look, and each word that steers, reaches its end; JSON is JSON, whatever a label has and a stream lacks."""
    label, other = "漢 é µs", "a\x7f\x9b \u202e"
    shown = Symbols(encoding).escape(label)

    def look(*words: str, code: int = 0) -> str:
        words = (
            "look" if words in ((), ("--json",)) else "steer",
            str(os.getpid()),
            *words,
        )
        done = CliRunner(catch_exceptions=False, charset=encoding).invoke(
            command, words, prog_name="trioflow"
        )
        assert done.exit_code == code, done.output
        return done.output

    def steer() -> None:
        (found,) = json.loads(look("--json"))["runs"]
        assert [path for failure in found["failures"] for path in failure["paths"]] == [
            label
        ]
        assert other in {path for group in found["waiting"] for path in group["paths"]}
        assert shown in look()
        for words in (["pause"], ["resume"], ["try-again", label]):
            assert f"'{shown}': " in look(*words)
        assert shown in look("cancel", "漢 é", code=2)  # which it proposes
        assert r"'a\x7f\x9b \u202e': cancelled" in look("cancel", other)

    steering = ThreadJob(steer, label="steering")
    steering.requires(failed := Job(fail, label=label), settled=True)
    Scheduler(
        failed, steering, Job(nap, 0, required=steering, label=other), label=label
    ).run()
    steering.result()


@pytest.mark.parametrize(
    ("limit", "step", "next_step"), [(10, 1, 5), (120, 5, 30), (600, 30, 60)]
)
def test_the_step_of_an_estimate_grows_at_its_limits_and_not_before(
    limit: int, step: int, next_step: int
) -> None:
    assert estimate_text(limit - step - 0.1) == duration_text(limit - step)
    assert estimate_text(limit - step + 0.1) == duration_text(limit)
    assert estimate_text(limit + 0.1) == duration_text(limit + next_step)
    # A lower bound is rounded down.
    assert estimate_text(limit - 0.1, is_least=True) == duration_text(limit - step)
    assert estimate_text(limit + 0.1, is_least=True) == duration_text(limit)
