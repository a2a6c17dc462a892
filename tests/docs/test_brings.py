"""The table of docs/how-to/library.md says which packages come with trioflow, and what a program loads."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from benchmarks.beside.imports import LIBRARIES, THREE_JOBS, packages

from ..places import ROOT

PAGE = (ROOT / "docs/how-to/library.md").read_text(encoding="utf-8")
LOADED = "\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"


def loaded(program: str) -> set[str]:
    """Return the modules and packages that a program has loaded in an interpreter of its own."""
    words = [sys.executable, "-I", "-c", program + LOADED]
    names = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return {*names}


@pytest.mark.parametrize("name", [name for name in LIBRARIES if f"| `import {name}` " in PAGE and name != "asyncio"])
def test_the_packages_that_come_with_a_library_are_those_of_the_table(name: str) -> None:
    """A new requirement changes the number."""
    pytest.importorskip(name)
    row = re.search(rf"\| `import {name}` \|[^|]*\|[^|]*\| (\d+) \|", PAGE)
    assert row is not None
    assert len(packages(name)) == int(row[1])


def test_the_page_names_each_package_that_comes() -> None:
    """The sentence below the table lists them all."""
    sentence = PAGE[PAGE.index("The packages are ") :]
    assert {name for name in packages("trioflow") if name not in sentence} == set()


@pytest.mark.parametrize(("backend", "other"), [("asyncio", "trio"), ("trio", "asyncio")])
def test_a_run_imports_its_own_loop_alone(backend: str, other: str) -> None:
    assert other not in loaded(THREE_JOBS.format(backend))


def test_an_import_loads_the_engine_alone() -> None:
    rooms = {name.split(".")[1] for name in loaded("import trioflow") if name.startswith("trioflow.")}
    assert not rooms & {"batch", "cli", "compat", "journal", "otel", "simulation", "testing", "view"}, rooms
