"""The pages about exploring and testing: their output is real, and their files of tests pass."""

import re
import shlex
import pytest
from ..places import ROOT
from ..pythons import run_pytest

pytest_plugins = ["pytester"]

PAGE = (ROOT / "docs" / "how-to" / "explore.md").read_text(encoding="utf-8")


def test_the_story_on_the_page_is_that_of_the_example() -> None:
    code = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0]
    heading, _, shown = re.findall(r"^```text\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE)[0].partition("\n\n")
    assert re.fullmatch(r"Run \d+ of 1000 \(seed=1\) violates an invariant. The shortest story of it:", heading)
    (seed,) = re.findall(r"seed='(.*)'\)$", shown)
    names: dict[str, str] = {}
    exec(compile(code.replace("seed=1", f"seed={seed!r}"), "transfers.py", "exec", dont_inherit=True), names)
    lines = code.splitlines()

    def with_code(found: re.Match[str]) -> str:  # the page is in no file of its own, so no line is found
        return f"{found[0]}: {lines[int(found[1]) - 1].strip()}"

    assert re.sub(r"transfers\.py:(\d+)", with_code, names["story"].partition("\n\n")[2]) == shown


def test_the_test_file_on_the_page_passes(pytester: pytest.Pytester) -> None:
    found = re.search(r"<!-- a file of tests: pytest (.*?) -->\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    pytester.makepyfile(found[2])
    run_pytest(pytester, *found[1].split()).assert_outcomes(passed=1)


# --- the page about users' own tests: pytest runs its test files, with the options named there

TESTING_PAGE = (ROOT / "docs" / "how-to" / "testing.md").read_text(encoding="utf-8")
FILES = re.findall(
    r"<!-- a file of tests: pytest ?(.*?) -->\n```python\n(.*?)^```$", TESTING_PAGE, re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize(("options", "text"), FILES, ids=["the nursery", "anyio's plugin"])
def test_the_test_files_on_the_page_pass(pytester: pytest.Pytester, options: str, text: str) -> None:
    pytester.makepyfile(text)
    result = run_pytest(pytester, *shlex.split(options))
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] >= 1
