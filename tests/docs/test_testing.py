"""The page about users' own tests: pytest runs its test files, with the options named there."""

from __future__ import annotations

import re
import shlex

import pytest

from ..places import ROOT
from ..pythons import run_pytest

pytest_plugins = ["pytester"]

PAGE = (ROOT / "docs" / "how-to" / "testing.md").read_text(encoding="utf-8")
FILES = re.findall(r"<!-- a file of tests: pytest ?(.*?) -->\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("options", "text"), FILES, ids=["the nursery", "anyio's plugin"])
def test_the_test_files_on_the_page_pass(pytester: pytest.Pytester, options: str, text: str) -> None:
    pytester.makepyfile(text)
    result = run_pytest(pytester, *shlex.split(options))
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] >= 1
