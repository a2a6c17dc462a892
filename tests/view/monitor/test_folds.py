"""In the log of a CI system that folds lines, `trioflow run` folds those that a job has written."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import pytest

from trioflow.view.monitor._output_buffer import MAX_HELD_CHARACTERS

from ...cli.command_line import ENVIRONMENT, process, written

TALKERS = """
    import sys

    async def talk(name, error=None):
        print(name, "begins")
        await anyio.sleep(0.01)
        print(name, "warns", file=sys.stderr)
        print(name, "ends", end="")
        if error is not None:
            raise error

    both = [Job(talk, name, label=name) for name in ("one", "two")]
    shell = CommandJob("echo from; echo a shell >&2", shell=True, label="shell", required=both)
    inner = Scheduler(*both, shell, label="inner")
    scheduler = Scheduler(inner, Job(talk, "bad", ValueError("no"), label="bad", required=inner), label="ci")
"""


def log(directory: Path, code: str, variable: str = "") -> str:
    """Return the log of a CI system, without the times."""
    environment = {**ENVIRONMENT, **({variable: "true"} if variable else {})}
    words = "run", written(directory, code)
    done = process(*words, env=environment, text=False, stderr=subprocess.STDOUT, stdout=subprocess.PIPE)
    return re.sub(r"^\d\d:\d\d:\d\d ", "", done.stdout.decode(), flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("variable", "begin", "end"),
    [
        ("GITHUB_ACTIONS", "::group::{}", "::endgroup::"),
        (
            "GITLAB_CI",
            "\x1b[0Ksection_start:TIME:trioflow_NUMBER[collapsed=true]\r\x1b[0K{}",
            "\x1b[0Ksection_end:TIME:trioflow_NUMBER\r\x1b[0K",
        ),
    ],
)
def test_the_lines_of_each_job_are_a_group(tmp_path: Path, variable: str, begin: str, end: str) -> None:
    """Groups cannot overlap, so each stands where its job ends; the lines of a job that fails are in none."""
    text = re.sub(r"\d{10}:trioflow_\d+", "TIME:trioflow_NUMBER", log(tmp_path, TALKERS, variable))
    for name in ("one", "two"):
        lines = f"{name} begins\n{name} warns\n{name} ends"
        assert f"{begin.format(f'inner/{name}')}\n{lines}\n{end}\nsucceeded inner/{name}" in text
    shell = rf"{re.escape(begin.format('inner/shell'))}\n(from\na shell|a shell\nfrom)\n{re.escape(end)}\n"
    assert re.search(shell, text)
    assert begin.format("bad") not in text
    assert re.search(r"\nbad begins\nbad warns\nbad ends('bad' failed: .*)?\nFAILED    bad", text)


def test_without_a_ci_system_lines_are_as_they_were_written(tmp_path: Path) -> None:
    text = log(tmp_path, TALKERS)
    assert "group" not in text
    assert "section" not in text
    assert text.index("two begins") < text.index("one warns")


def test_a_job_that_writes_much_has_several_groups(tmp_path: Path) -> None:
    """What is held does not grow without a bound, and each line is written once."""
    code = f"""
        async def write():
            for number in range(3):
                print((str(number) * 1023 + "\\n") * {MAX_HELD_CHARACTERS // 2000}, end="")

        scheduler = Scheduler(Job(write, label="much"), label="ci")
    """
    lines = log(tmp_path, code, "GITHUB_ACTIONS").splitlines()
    found = [kind for kind, _ in itertools.groupby(line[:1] for line in lines) if kind in ("0", "1", "2", ":")]
    assert found == [":", "0", "1", ":", "2", ":"]
    assert sum(line[:1] in ("0", "1", "2") for line in lines) == 3 * (MAX_HELD_CHARACTERS // 2000)


def test_bytes_that_a_stream_refuses_lose_no_line(tmp_path: Path) -> None:
    """click tries whether a stream takes bytes; what a job had begun to write on that line was lost."""
    code = """
        import sys

        async def write():
            print("kept", end="")
            try:
                sys.stdout.write(b"")
            except TypeError:
                print(" line")

        scheduler = Scheduler(Job(write, label="writes"))
    """
    assert "::group::writes\nkept line\n::endgroup::\n" in log(tmp_path, code, "GITHUB_ACTIONS")
