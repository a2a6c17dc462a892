"""The pages for newcomers and users of other libraries: each program prints the output shown there."""

import doctest
import os
import re
from collections.abc import Iterator
from pathlib import Path
import pytest
from ..places import ROOT
from ..pythons import python
from .timeless import timeless

SHOWN = re.compile(
    r"^```python\n(?P<program>(?:(?!```).*\n)+)```\n\n"
    r"It prints(?: the same[^\n]*\.|[^\n]*:\n\n```text\n(?P<printed>(?:(?!```).*\n)+)```)$",
    re.MULTILINE,
)
"""A program, and what it prints: a text, or the same as the first program of its page."""


def programs(page: str) -> Iterator[tuple[str, str]]:
    found = list(SHOWN.finditer((ROOT / f"{page}.md").read_text(encoding="utf-8")))
    before = found[0]["program"].partition("async def main")[0]
    for program in found:
        is_whole = "as before\n" not in program["program"]
        yield (
            program["program"] if is_whole else before + program["program"],
            program["printed"] or found[0]["printed"],
        )


PROGRAMS = [
    pytest.param(program, printed, id=f"{Path(page).name}-{number}")
    for page in (
        "docs/coming-from/asynciojobs", "docs/coming-from/dask", "docs/coming-from/gather", "docs/coming-from/nursery",
        "docs/coming-from/pyexpool", "docs/how-to/requests", "docs/how-to/server",
    )
    for number, (program, printed) in enumerate(programs(page))
]  # fmt: skip
AGENTS = (ROOT / "docs" / "how-to" / "agents.md").read_text(encoding="utf-8")
PROGRAMS += [  # a program in several parts
    pytest.param(
        "\n".join(
            re.findall(r"^```python\n(.*?)^```$", AGENTS, re.MULTILINE | re.DOTALL)
        ),
        printed,
        id="agents",
    )
    for printed in re.findall(
        r"prints:\n\n```text\n(.*?)^```$", AGENTS, re.MULTILINE | re.DOTALL
    )
]


@pytest.mark.sampled
@pytest.mark.parametrize(("program", "printed"), PROGRAMS)
def test_a_program_prints_the_output_shown_on_the_page(
    tmp_path: Path, program: str, printed: str
) -> None:
    """A program on one of the pages prints the output shown there; three dots on the page stand for any lines."""
    file = tmp_path / "program.py"
    file.write_text(program, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    environment["PYTHONUNBUFFERED"] = (
        "1"  # in order with what its commands print, as in a terminal
    )
    done = python(file, cwd=tmp_path, env=environment, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    alike = doctest.OutputChecker().check_output(
        timeless(printed), timeless(done.stdout), doctest.ELLIPSIS
    )
    assert alike, done.stdout


@pytest.mark.parametrize(
    ("library", "module"), [("asynciojobs", "asynciojobs"), ("pyexpool", "mpepool")]
)
def test_program_prints_the_same_with_the_import_of_compat_module(
    library: str, module: str, tmp_path: Path
) -> None:
    old, new = f"from {module} import", f"from trioflow.compat.{library} import"
    program, printed = next(
        given.values for given in PROGRAMS if given.id == f"{library}-0"
    )
    assert isinstance(program, str)
    assert program.count(old) == 1
    reports_of_the_library = "...\n"
    test_a_program_prints_the_output_shown_on_the_page(
        tmp_path,
        program.replace(old, new),
        str(printed).replace(reports_of_the_library, ""),
    )


def test_the_page_on_failures_shows_what_is_logged() -> None:
    text = (ROOT / "docs" / "explained" / "failures.md").read_text(encoding="utf-8")
    (shown,) = re.findall(
        r"do not answer give three lines:\n\n```text\n(.*?)^```$",
        text,
        re.MULTILINE | re.DOTALL,
    )
    program = """
from trioflow import Job, Scheduler

async def boot(node):
    raise ConnectionError("no answer")

Scheduler(Job(boot, node) for node in range(20)).run()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    assert python("-c", program, env=environment, encoding="utf-8").stderr == shown


def test_all_programs_on_the_pages_are_found() -> None:
    """No program on the pages for newcomers is left out because of its formatting."""
    assert len(PROGRAMS) == 2 + 2 + 2 + 2 + 2 + 1 + 1 + 1
