"""Pages with a session: programs that the reader saves, commands that follow, and their output."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path
import pytest
from ..places import PATIENCE, ROOT, SESSIONS
from ..pythons import make_program, run_pytest
from ..servers import BIN, folder_of_server, initdb, postgres, serving
from .timeless import timeless

STEP = re.compile(
    r"^(?:[^\n]*`(?P<file>[\w/-]+\.\w+)`:\n\n```\w+|```console)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
"""A file to be saved, named in the line before it, or commands with what they print."""

DATABASES = "docs/how-to/databases.md"


def programs(directory: Path) -> None:
    """Create `python` and `trioflow` commands of this test; `run` shows nothing that moves. Only a command whose
    process ID the page uses is no client of a process that forks."""
    directory.mkdir()
    make_program(directory / "python")
    make_program(directory / "forked", "-m", "trioflow")
    (directory / "trioflow").write_text(
        "#!/bin/sh\n"
        '[ "$1" = run ] && set -- "$@" --no-monitor\n'
        f'[ "$HAS_PID" ] && exec "{sys.executable}" -m trioflow "$@"\n'
        f'exec "{directory}/forked" "$@"\n'
    )
    (directory / "trioflow").chmod(0o755)


@pytest.fixture
def database(page: str) -> Iterator[dict[str, str]]:
    """Return the variables that tell a PostgreSQL client where its server is, for the page that needs one."""
    if page != DATABASES:
        yield {}
    elif not BIN.exists():
        pytest.skip("PostgreSQL is not installed")
    else:
        with (
            folder_of_server() as folder,
            serving(make := initdb(folder), postgres(folder, required=make)),
        ):
            yield {"PGHOST": str(folder), "PGUSER": "me", "PGDATABASE": "postgres"}


@pytest.mark.parametrize(
    "page",
    # A start of PostgreSQL costs as much as all other pages.
    [
        pytest.param(page, marks=pytest.mark.ci) if page == DATABASES else page
        for page in SESSIONS
    ],
)
def test_a_session_prints_the_output_shown_on_the_page(
    tmp_path: Path, page: str, database: dict[str, str]
) -> None:
    """The files and commands of a page, saved and typed, give the output shown; three dots stand for any lines."""
    text = (ROOT / page).read_text(encoding="utf-8")
    programs(tmp_path / "bin")
    place = tmp_path / "place"
    place.mkdir()
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if name != "GITHUB_ACTIONS"
        },  # there more is printed
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        **database,
        "PYTHONUNBUFFERED": "1",
        # On a busy machine Dask complains when a cluster ends: its workers, and asyncio of a BatchedSend.close() that
        # has timed out and that distributed does not await.
        "DASK_LOGGING__DISTRIBUTED": "critical",
        "DASK_LOGGING__ASYNCIO": "critical",
    }
    saved = answers = 0
    for step in STEP.finditer(text):
        if step["file"] is not None:
            (place / step["file"]).write_text(step["text"], encoding="utf-8")
            saved += step["file"].endswith(".py")
            continue
        for line, shown in re.findall(
            r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", step["text"], re.MULTILINE
        ):
            has_pid = "1" if "echo $!" in line else ""
            done = subprocess.run(
                ["/bin/sh", "-c", line], cwd=place, env={**environment, "HAS_PID": has_pid}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
            alike = OutputChecker().check_output(
                timeless(shown),
                timeless(done.stdout.replace(" --no-monitor", "")),
                ELLIPSIS,
            )
            assert alike, f"$ {line}\n{done.stdout}"
            answers += 1
    assert answers
    assert saved == text.count("\n```python\n"), "a program is not to be saved"


pytest_plugins = ["pytester"]

PAGE = (ROOT / "docs" / "how-to" / "explore.md").read_text(encoding="utf-8")


def test_the_story_on_the_page_is_that_of_the_example() -> None:
    code = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0]
    heading, _, shown = re.findall(
        r"^```text\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE
    )[0].partition("\n\n")
    assert re.fullmatch(
        r"Run \d+ of 1000 \(seed=1\) violates an invariant. The shortest story of it:",
        heading,
    )
    (seed,) = re.findall(r"seed='(.*)'\)$", shown)
    names: dict[str, str] = {}
    exec(
        compile(
            code.replace("seed=1", f"seed={seed!r}"),
            "transfers.py",
            "exec",
            dont_inherit=True,
        ),
        names,
    )
    lines = code.splitlines()

    def with_code(
        found: re.Match[str],
    ) -> str:  # the page is in no file of its own, so no line is found
        return f"{found[0]}: {lines[int(found[1]) - 1].strip()}"

    assert (
        re.sub(r"transfers\.py:(\d+)", with_code, names["story"].partition("\n\n")[2])
        == shown
    )


def test_the_test_file_on_the_page_passes(pytester: pytest.Pytester) -> None:
    found = re.search(
        r"<!-- a file of tests: pytest (.*?) -->\n```python\n(.*?)^```$",
        PAGE,
        re.DOTALL | re.MULTILINE,
    )
    assert found is not None
    pytester.makepyfile(found[2])
    run_pytest(pytester, *found[1].split()).assert_outcomes(passed=1)


# --- the page about users' own tests: pytest runs its test files, with the options named there

TESTING_PAGE = (ROOT / "docs" / "how-to" / "testing.md").read_text(encoding="utf-8")
FILES = re.findall(
    r"<!-- a file of tests: pytest ?(.*?) -->\n```python\n(.*?)^```$",
    TESTING_PAGE,
    re.DOTALL | re.MULTILINE,
)


@pytest.mark.parametrize(
    ("options", "text"), FILES, ids=["the nursery", "anyio's plugin"]
)
def test_the_test_files_on_the_page_pass(
    pytester: pytest.Pytester, options: str, text: str
) -> None:
    pytester.makepyfile(text)
    result = run_pytest(pytester, *shlex.split(options))
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] >= 1
