"""Each view reaches its end on a stream that lacks its characters, such as the sign of microseconds."""

import io
import json
import os
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner
from trioflow import Job, Monitor, Scheduler, ThreadJob
from trioflow._core.base._text_forms import UNITS, duration_text
from trioflow.cli._commands import command
from trioflow.view.text._symbols import Symbols, durations_in_column
from ..bodies import fail, nap
from ..cli.command_line import unchanged_process, written
from ..conftest import Virtual
from .monitor.monitors import Terminal

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
    async def retried() -> None:
        await anyio.sleep(seconds)
        raise OSError("漢 µs")

    first = Job(nap, seconds, label="漢 é")
    bad = Job(retried, retry=1, label="bad")
    nested = Scheduler(
        Job(nap, seconds, label="in"), Job(nap, seconds * 9, timeout=seconds, on_timeout="move_on"), label="group"
    )
    jobs = [
        first, bad, nested, Job(nap, 1, required=bad, label="blocked"), Job(nap, 9e9, forever=True, label="forever"),
    ]  # fmt: skip
    return Scheduler(*jobs, Job(fail, seconds, required=(first, nested), critical=True, label="last"), label="night",
                     instruments=monitors)  # fmt: skip


@pytest.mark.sampled
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_view_says_all_with_each_unit_in_each_encoding(virtual: Virtual, encoding: str) -> None:
    """Once a monitor was silent from the first job on that took microseconds, also about the failure at the end."""
    for seconds in DURATIONS:
        log, terminal, printed = Stream(encoding), Terminal(encoding=encoding), Stream(encoding)
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
        for text in (duration_text(seconds), duration_text(seconds, in_column=True), durations_in_column([seconds])[0]):
            expected = text.replace("µs", "us") if lacks else text
            assert symbols.escape(text) == symbols.encodable(text) == expected
            assert expected.encode(encoding).decode(encoding) == expected


@pytest.mark.sampled
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_command_says_all_in_each_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
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
            done = CliRunner(catch_exceptions=False, charset=encoding).invoke(command, words, prog_name="trioflow")
        assert done.exit_code == code, done.output
        assert "\\xb5" not in done.output
        return done.output

    for trace in ("a.json", "b.json"):
        assert "1 failed" in output("run", path, "--journal", "run.db", "--trace", trace, code=3)
    assert "1 failed" in output("run", path, "--no-monitor", code=3)
    assert "bad" in output("list", path)
    assert "night" in output("journal", "run.db")
    assert "bad" in output("compare", "a.json", "b.json")
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
        words = ("look" if words in ((), ("--json",)) else "steer", str(os.getpid()), *words)
        done = CliRunner(catch_exceptions=False, charset=encoding).invoke(command, words, prog_name="trioflow")
        assert done.exit_code == code, done.output
        return done.output

    def steer() -> None:
        (found,) = json.loads(look("--json"))["runs"]
        assert [path for failure in found["failures"] for path in failure["paths"]] == [label]
        assert other in {path for group in found["waiting"] for path in group["paths"]}
        assert shown in look()
        for words in (["pause"], ["resume"], ["try-again", label]):
            assert f"'{shown}': " in look(*words)
        assert shown in look("cancel", "漢 é", code=2)  # which it proposes
        assert r"'a\x7f\x9b \u202e': cancelled" in look("cancel", other)

    steering = ThreadJob(steer, label="steering")
    steering.requires(failed := Job(fail, label=label), settled=True)
    Scheduler(failed, steering, Job(nap, 0, required=steering, label=other), label=label).run()
    steering.result()
