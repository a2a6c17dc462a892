"""The documentation agrees with the code and with itself; Sybil runs its examples."""

import functools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import pytest
from benchmarks.beside.imports import LIBRARIES, THREE_JOBS, packages
from trioflow import JobState, StopReason
from trioflow._core.base import _states
from trioflow._core.base._states import TRANSITIONS
from trioflow.view._state_styles import STATE_STYLES
from ..places import DOCS, ROOT

README = ROOT / "README.md"
STUBS = {
    ROOT / "docs" / f"{name}.md"
    for name in ("index", "changelog", "contributing", "security")
}  # on the site, another file
PAGES = [
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted({*(ROOT / "docs").rglob("*.md")} - STUBS),
]

REFERENCE = ROOT / "docs" / "reference"


def prose(page: Path) -> str:
    text = re.sub(
        r"^```.*?^```$",
        "",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    return re.sub(r"`[^`\n]*`", "`code`", text)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield file and anchor of each link to something in the repository, and of each picture."""
    for target in re.findall(
        r"""(?<=\]\()[^)\s]+(?=\))|(?<=\bsrc=")[^"]+|(?<=\bsrcset=")[^"]+""",
        prose(page),
    ):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield ((page.parent / path).resolve() if path else page), anchor


def anchors(page: Path) -> set[str]:
    text = re.sub(
        r"^```.*?^```$",
        "",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


def test_links_resolve() -> None:
    """A link within the repository leads to an existing file and heading."""
    for page in PAGES:
        for target, anchor in links(page):
            assert target.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(target), (
                f"{page.name} links to #{anchor} of {target.name}"
            )


MOST_WORDS = 50_000
"""How many words all pages may have, decisions aside; code and the bars of tables are words."""


MOST_WORDS_OF_README = 900


def test_the_readme_stays_within_its_bound() -> None:
    """A reader decides in a minute: what the README gains, it gives back elsewhere."""
    assert len(README.read_text(encoding="utf-8").split()) <= MOST_WORDS_OF_README


def test_all_pages_together_stay_within_their_bound() -> None:
    """A new page is paid for by what it replaces; the longest pages are where to look first."""
    words = Counter(
        {
            page.relative_to(ROOT).as_posix(): len(
                page.read_text(encoding="utf-8").split()
            )
            for page in (ROOT / "docs").rglob("*.md")
            if not {"_site", "decisions"} & set(page.parts)
        }
    )
    longest = ", ".join(f"{page} {number}" for page, number in words.most_common(8))
    assert words.total() <= MOST_WORDS, (
        f"{words.total():,} words; the longest pages: {longest}"
    )


def test_no_table_is_cut_and_no_gap_is_wide() -> None:
    """An empty line stands alone, and never within a table, where it would end the table."""
    for page in PAGES:
        text = re.sub(
            r"^```.*?^```$",
            "code",
            page.read_text(encoding="utf-8"),
            flags=re.DOTALL | re.MULTILINE,
        )
        assert "\n\n\n" not in text, page
        cut = re.search(r"^\|.*\n\n(\|.*)\n(?!\|[ :|-]+$)", text, re.MULTILINE)
        assert not cut, f"{page.name}: {cut and cut[1]}"


def test_each_picture_is_shown_and_small() -> None:
    """Each picture is on some page, and takes at most 200 kB of each clone."""
    shown = {target for page in PAGES for target, _ in links(page)}
    for picture in (ROOT / "docs" / "pictures").iterdir():
        assert picture in shown
        assert picture.stat().st_size < 200_000


def test_each_page_can_be_reached_from_the_readme() -> None:
    reached = {README}
    todo = [README]
    while todo:
        new = {target for target, _ in links(todo.pop()) if target in PAGES} - reached
        reached |= new
        todo += new
    assert set(PAGES) - reached == set()


def test_the_figure_of_states_shows_the_table_of_transitions() -> None:
    figure = (ROOT / "docs" / "pictures" / "states.svg").read_text(encoding="utf-8")
    drawn = re.findall(r"<title>(\w+)&#45;&gt;(\w+)</title>", figure)
    assert sorted(drawn) == sorted(
        (old.name, new.name) for old in JobState for new in TRANSITIONS[old].values()
    )


def test_the_text_of_the_figure_of_states_names_each_transition() -> None:
    """The text in place of the figure of states lists what may follow each state, in the order of the states."""
    steps = {
        old: [new.name for new in JobState if new in TRANSITIONS[old].values()]
        for old in JobState
    }
    texts = [
        f"{old.name} to {' or '.join(filter(None, [', '.join(n[:-1]), n[-1]]))}"
        for old, n in steps.items()
        if n
    ]
    assert f"![The steps: {'; '.join(texts)}](" in (REFERENCE / "jobs.md").read_text(
        encoding="utf-8"
    )


def test_the_reference_says_of_each_state_what_the_code_says() -> None:
    source = Path(_states.__file__).read_text(encoding="utf-8")
    body = source.partition("class JobState")[2].partition("@property")[0]
    texts = re.findall(r'^    """(.+?)"""$', body, re.MULTILINE)[
        1:
    ]  # the first one is that of the class
    page = re.sub(
        r"\[([^]]+)\]\([^)]+\)",
        r"\1",
        (REFERENCE / "jobs.md").read_text(encoding="utf-8"),
    )
    assert texts == [
        f"The job {row}."
        for row in re.findall(r"^\| [A-Z]+ \| `.` \| (.+?) \|", page, re.MULTILINE)
    ]


def test_the_tables_of_states_and_stop_reasons_are_complete() -> None:
    """The reference has a row for each `JobState`, with its symbol in listings, and for each `StopReason`."""
    jobs = (REFERENCE / "jobs.md").read_text(encoding="utf-8")
    symbols = re.findall(r"^\| ([A-Z]+) \| `(.)` \|", jobs, re.MULTILINE)
    assert symbols == [(state.name, STATE_STYLES[state].symbol) for state in JobState]
    reasons = (REFERENCE / "scheduler.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| ([A-Z]+) \|", reasons, re.MULTILINE) == [
        reason.name for reason in StopReason
    ]


def test_the_glossary_is_in_alphabetical_order() -> None:
    lines = (
        (ROOT / "docs" / "glossary.md")
        .read_text(encoding="utf-8")
        .partition("\n- ")[2]
        .splitlines()
    )
    terms = [re.match(r"(?:- )?\*\*(.+?)\*\*: ", line) for line in lines]
    assert all(terms), f"not a term: {lines[terms.index(None)]}"
    names = [term[1].lower() for term in terms if term]
    assert names == sorted(set(names))


# --- the table of docs/how-to/library.md says which packages come with trioflow, and what a program loads

PAGE = (ROOT / "docs/how-to/library.md").read_text(encoding="utf-8")
LOADED = "\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"


@functools.cache
def loaded(program: str) -> set[str]:
    """Return the modules and packages that a program has loaded in an interpreter of its own."""
    words = [sys.executable, "-I", "-c", program + LOADED]
    return {
        *json.loads(
            subprocess.run(words, capture_output=True, text=True, check=True).stdout
        )
    }


@pytest.mark.parametrize(
    "name",
    [name for name in LIBRARIES if f"| `import {name}` " in PAGE and name != "asyncio"],
)
def test_the_packages_that_come_with_a_library_are_those_of_the_table(
    name: str,
) -> None:
    pytest.importorskip(name)
    row = re.search(rf"\| `import {name}` \|[^|]*\|[^|]*\| (\d+) \|", PAGE)
    assert row is not None
    assert len(packages(name)) == int(row[1])


def test_the_page_names_each_package_that_comes() -> None:
    sentence = PAGE[PAGE.index("The packages are ") :]
    assert {name for name in packages("trioflow") if name not in sentence} == set()


@pytest.mark.parametrize(
    ("backend", "other"), [("asyncio", "trio"), ("trio", "asyncio")]
)
def test_a_run_imports_its_own_loop_alone(backend: str, other: str) -> None:
    assert other not in loaded(THREE_JOBS.format(backend))


def test_an_import_loads_the_engine_alone() -> None:
    rooms = {
        name.split(".")[1]
        for name in loaded("import trioflow")
        if name.startswith("trioflow.")
    }
    assert not rooms & {
        "batch",
        "cli",
        "compat",
        "journal",
        "otel",
        "simulation",
        "testing",
        "view",
    }, rooms


def test_importing_trioflow_does_not_import_graphviz() -> None:
    names = {name.partition(".")[0] for name in loaded("import trioflow")}
    assert not names & {"graphviz", "html"}


# --- the experiment on the page about nodes, with a node on which a round fails

SCRIPT = """\
#!/bin/sh
[ "$1" != 1 ] || [ "${PWD##*/}" = node01 ] || [ -e ../../mended ] || exit 7
echo "round $1" >> results.txt
"""


def results() -> dict[str, list[str]]:
    return {
        name: Path(f"results/{name}.txt").read_text().splitlines()
        for name in ("node01", "node02")
    }


def test_a_failed_round_ends_the_rounds_of_its_node_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed round once blocked those of all other nodes, and nothing was pulled; resumed, all measured it again."""
    monkeypatch.chdir(tmp_path)
    Path("measure.sh").write_text(SCRIPT)
    Path("measure.sh").chmod(0o755)
    program = re.search(
        r"```python\n(.*?)```",
        (DOCS / "how-to/nodes.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert program is not None
    page: dict[str, Any] = {}
    exec(program[1], page)
    experiment = page["scenario"]()
    assert not experiment.run(journal="experiment.db")
    bad = {job.label: job.state.name for job in experiment if not job.is_succeeded()}
    assert bad == {"round 1 node02": "FAILED", "round 2 node02": "BLOCKED"}
    rounds = ["round 0", "round 1", "round 2"]
    assert results() == {"node01": rounds, "node02": rounds[:1]}
    Path("mended").touch()
    assert page["scenario"]().run(journal="experiment.db")
    assert results() == {"node01": rounds, "node02": rounds}
