"""Extras and dependency groups named in the README, pages and messages are those of pyproject.toml; each extra is
explained and tested."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
import pytest
from ..places import PACKAGE, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
FILES = [*PAGES, *(ROOT / "examples").glob("*.py"), *PACKAGE.rglob("*.py")]
SCRIPTS = [
    ROOT / ".ci" / "run",
    ROOT / ".ci" / "release",
    ROOT / ".github" / "workflows" / "ci.yml",
]


def extras_named(text: str) -> set[str]:
    """Return the extras in `trioflow[a,b]`, `.[a]`, `[a]` behind a path, "the extra `a`" and "the `a` extra"."""
    lists = re.findall(r"(?:trioflow|CLONE|['\"` ]\.)\[([a-z, ]+)\](?!\()", text)
    words = re.findall(r"\bextras? `([a-z]+)`|`([a-z]+)` extra\b", text)
    return {name.strip() for names in lists for name in names.split(",")} | {
        a or b for a, b in words
    }


def test_each_extra_named_on_pages_and_in_messages_exists() -> None:
    named = {
        name: path
        for path in FILES
        for name in extras_named(path.read_text(encoding="utf-8"))
    }
    assert len(named) > 8
    assert {name: path for name, path in named.items() if name not in EXTRAS} == {}


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_each_extra_is_in_the_table_on_the_first_page(extra: str) -> None:
    page = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert (
        f"\n| `{extra}` | " in page.partition("\n## Install\n")[2].partition("\n## ")[0]
    )


def test_each_dependency_group_named_on_pages_and_in_scripts_exists() -> None:
    """Each group that a page, a script of CI or a program of the docs names after `--group` is in pyproject.toml."""
    files = [
        *PAGES,
        *SCRIPTS,
        *(ROOT / "docs").glob("*.py"),
        *(ROOT / "benchmarks").rglob("*.py"),
    ]
    named = {
        name
        for file in files
        for name in re.findall(r"--group ([a-z]+)", file.read_text(encoding="utf-8"))
    }
    assert {"dev", "docs", "test"} <= named <= set(PROJECT["dependency-groups"])


def test_the_release_installs_each_member_of_the_extra_all() -> None:
    release = (ROOT / ".ci" / "release").read_text(encoding="utf-8")
    (tried,) = re.findall(r'^ +extras=\("" (.*)\)$', release, re.MULTILINE)
    (everything,) = EXTRAS["all"]
    assert sorted(tried.split()) == sorted(
        {"all", *re.findall(r"\w+", everything.removeprefix("trioflow"))}
    )


MODULES = {
    "click": "click", "dask": "dask", "distributed": "distributed", "graphviz": "graphviz", "jinja2": "jinja2",
    "loky": "loky", "msgspec": "msgspec", "opentelemetry-api": "opentelemetry", "rich": "rich",
}  # fmt: skip
"""The module of each package that an extra has."""
PROGRAM = """
import json, os, sys
modules, programs = map(json.loads, sys.argv[1:])
sys.modules.update(dict.fromkeys(modules, None))
import io, trioflow
from trioflow import Events, Job, Monitor, Scheduler, Trace
from trioflow.view import listing, save
async def give(): return 1
scheduler, trace = Scheduler(Job(give, label="one"), label="all"), Trace()
assert scheduler.run(instruments=[trace])
for extra, (there, uses) in programs.items():
    if not (process := os.fork()):
        for module in there:
            del sys.modules[module]
        exec(uses)
        sys.exit()
    if os.waitpid(process, 0)[1]:
        sys.exit(f"this was the extra {extra!r}")
"""
"""Imports the package and runs a scenario without any extra, and forks for each."""
USES = {
    "": "[save(trace, f't{suffix}') for suffix in ('.json', '.csv', '.svg')]; save(scheduler, 'g.mmd')\n"
    "scheduler.list(); scheduler.debrief(); listing(scheduler); trace.time_spent()",
    "cli": "from trioflow.cli._commands import command\n"
    "open('flow.py', 'w').write('from trioflow import Scheduler\\nscenario = Scheduler()')\n"
    "try: command.main(['run', 'flow.py', '--trace', 't.json', '--report', 'r.html', '--journal', 'j.db'])\n"
    "except SystemExit as end: assert end.code == 0",
    "dask": "from trioflow.dask import Cluster",
    "events": "scheduler.run(instruments=[Events('events')])",
    "graph": "save(scheduler, 'g.dot'); scheduler.graph()",
    "journal": "scheduler.run(journal='run.db'); assert scheduler.run(journal='run.db')",
    "monitor": "scheduler.run(instruments=[Monitor(file=io.StringIO())])",
    "otel": "from trioflow.otel import Tracing; scheduler.run(instruments=[Tracing()])",
    "report": "save(trace, 'r.html')",
}
"""For each extra, and for none, a program that uses what it is for; `loky` is an executor that programs pass in."""


def modules_of(extra: str) -> set[str]:
    found: set[str] = set()
    for requirement in EXTRAS.get(extra, ()):
        name, _, parts = re.match(r"([\w-]+)(\[([\w,]+)\])?", requirement).groups()  # type: ignore[union-attr]
        found |= (
            {MODULES[name]}
            if parts is None
            else set().union(*map(modules_of, parts.split(",")))
        )
    return found


def test_what_an_extra_is_for_works_with_that_extra_alone(tmp_path: Path) -> None:
    """Each public export, and what each extra is for, works where no package of another extra is installed."""
    programs = {
        extra: ([*modules_of(extra)], USES[extra])
        for extra in ["", *(EXTRAS.keys() - {"all", "loky"})]
    }
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        json.dumps([*MODULES.values()]),
        json.dumps(programs),
    ]
    without_dot = {**os.environ, "PATH": ""}  # which takes longer than all else
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=without_dot,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
