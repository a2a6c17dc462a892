"""The examples and exit codes in docs/command/run.md are the real ones."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
import pytest
from trioflow.cli import EXIT_CODES_HELP
from ..places import ROOT
from .command_line import trioflow

PAGE = (ROOT / "docs" / "command" / "run.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def found() -> Iterator[tuple[str, str]]:
    """Return each command line of the page with the output that the page shows."""
    for block in blocks("console"):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = example.partition("\n")
            if output:
                yield line, output


EXAMPLES = list(found())


def timeless(text: str) -> str:
    return re.sub(r"[\d.]+ [mµ]?s\b", "1 ms", text)


@pytest.mark.parametrize(
    ("line", "output"), EXAMPLES, ids=[line for line, _ in EXAMPLES]
)
def test_docs_of_run_show_real_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, output: str
) -> None:
    """Each command in docs/command/run.md prints what the page shows, except for durations."""
    for file, code in zip(("flow.py", "broken.py"), blocks("python"), strict=True):
        (tmp_path / file).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    name, *arguments = shlex.split(line)
    assert name == "trioflow"
    assert timeless(trioflow(*arguments).output) == timeless(output)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("run {} --jobs 4 --timeout 60 --report release.html --set speed=50", 3),
        ("run {} --only build/* --set speed=50", 0),
        ("check {}", 0),
        ("graph {} -o release.mmd", 0),
    ],
)
def test_release_scenario_of_the_docs_gives_the_expected_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, code: int
) -> None:
    """The release of the pictures, docs/release.py, in which one test fails on purpose, can be run in parts, too."""
    monkeypatch.chdir(tmp_path)
    arguments = line.format(ROOT / "docs" / "release.py").split()
    assert trioflow(*arguments).exit_code == code
    assert all(file.stat().st_size for file in tmp_path.iterdir())


def test_exit_codes_in_the_docs_of_run_are_those_of_help() -> None:
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == re.findall(
        r"^  (\d+) ", EXIT_CODES_HELP, re.MULTILINE
    )
