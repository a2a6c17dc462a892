"""The site builds without a warning; an error on a page or in a docstring fails the build, with its place.

The whole build is a soak test, for which CI has a stage: reading all pages takes more work than any test of the suite.
"""

import os
import subprocess
import sys
from pathlib import Path
import pytest
from ..places import DOCS, ROOT

pytestmark = pytest.mark.timeout(300)  # alone it takes a quarter of a minute


def without_network_or_dot(
    *words: str, tmp_path: Path
) -> subprocess.CompletedProcess[str]:
    """Run Python without other commands on the path, and without network."""
    path = tmp_path / "bin"
    path.mkdir()
    nobody = "http://127.0.0.1:9"
    environment = {
        **os.environ,
        "PATH": str(path),
        "https_proxy": nobody,
        "http_proxy": nobody,
    }
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.soak
def test_the_site_is_built_without_network_or_dot(tmp_path: Path) -> None:
    """`python -m docs` needs Python alone; each page is built, and the search has an index. No warning means that each
    name in a docstring and each link is found, and each page is in a list."""
    site = tmp_path / "site"
    done = without_network_or_dot("-m", "docs", "--to", str(site), tmp_path=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (site / "index.html").is_file()
    texts = {path.name for path in site.rglob("_downloads/*/*.md")}
    assert not texts, "a link leads to the text of a page, in place of the page"
    assert "retry" in (site / "searchindex.js").read_text(encoding="utf-8")
    assert '<span class="sig-name descname"><span class="pre">drain</span>' in (
        site / "reference" / "scheduler.html"
    ).read_text(encoding="utf-8")


SOURCE = '''
"""A module."""

def right(job):
    """See `trioflow.Scheduler.drain`, `JobTimeout`, and the argument `job`."""

def wrong(job):
    """See `Sheduler.drain`."""

def wrong_type(job: "Sheduler") -> None:
    """Say nothing."""
'''
UNKNOWN = "WARNING: py:obj reference target not found:"
PAGE = """# A page

[A page](nowhere.md), and [a heading](#nowhere).

```{eval-rst}
.. autofunction:: wrong_names.right
.. autofunction:: wrong_names.wrong
.. autofunction:: wrong_names.wrong_type
.. py:class:: trioflow.Scheduler
.. py:method:: trioflow.Scheduler.drain
.. py:exception:: trioflow.JobTimeout
```
"""


@pytest.mark.soak
def test_the_site_build_names_the_place_of_each_error(tmp_path: Path) -> None:
    """The site build fails on a wrong name in a docstring or an annotation, or on a wrong link, with its place."""
    (tmp_path / "wrong_names.py").write_text(SOURCE)
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.md").write_text(PAGE)
    (pages / "README.md").write_text(PAGE)
    command = [
        sys.executable, "-m", "sphinx", "--no-color", "-q", "-n", "-W", "--keep-going", "-c", str(DOCS), str(pages),
    ]  # fmt: skip
    done = subprocess.run(
        [*command, str(tmp_path / "site")], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    found = [
        line.removeprefix(f"{tmp_path}/")
        for line in done.stderr.splitlines()
        if "WARNING" in line
    ]
    assert sorted(found) == [
        "pages/index.md:3: WARNING: 'myst' cross-reference target not found: 'nowhere' [myst.xref_missing]",
        "pages/index.md:3: WARNING: 'myst' cross-reference target not found: 'nowhere.md' [myst.xref_missing]",
        f"wrong_names.py:docstring of wrong_names.wrong:1: {UNKNOWN} Sheduler.drain [ref.obj]",
        f"wrong_names.py:signature of wrong_names.wrong_type:: {UNKNOWN} Sheduler [ref.obj]",
    ]
