"""Each version keeps what the releases before it have promised, and reads what they have written."""

import gzip
import json
import re
import shutil
import xml.etree.ElementTree as Tree
from collections.abc import Iterable, Iterator
from pathlib import Path
import anyio
import pytest
from trioflow import Job, Scheduler, simulate
from .. import public_names
from ..cli.command_line import trioflow
from ..pythons import python
from ..view.events.lines import checked
from . import FILES, FLOW, HERE

RELEASES = sorted(
    each for each in HERE.iterdir() if (each / public_names.FILE.name).exists()
)
GONE: dict[str, str] = {}
"""What has gone, as a test names it, and the release whose changelog says so, after two releases with a warning."""
LINE = re.compile(r"( *(?:class |command [^=]*|event |columns of [^:]*)?[^ (:=,]*)(.*)")
"""The name of what a line is about, or of a member, and the rest."""
NEXT = """
import json
import flow
from trioflow import Journal

if __name__ == "__main__":
    scheduler = flow.flow()
    scheduler.run(journal=Journal("run.db", hash=True))
    print(json.dumps([job.path for job in scheduler.iterate_jobs() if not job.restored]))
"""


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def release(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.param
    return folder


def promises(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the parts of each line: where it stands, its name, and a parameter, default, base, field or column. A
    parameter that may be given by place has its number, and the others may stand in any order. A journal may get
    another format, with which its lines change. What is provisional is no promise, nor is what its members are."""
    place, is_promised = "", True
    for line in lines:
        text, mark, provisional = line.partition(public_names.PROVISIONAL)
        found = LINE.fullmatch(text)
        assert found is not None
        name, rest = found.groups()
        is_member = text.startswith(" ")
        is_whole = bool(mark) and not provisional
        if not is_member:
            place, name = name, ""
            is_promised = place != "journal" and not is_whole
        if is_whole or not is_promised:
            continue
        yield place, name.strip(), ""
        is_by_place = "(" in rest or line.startswith("columns")
        for number, part in enumerate(re.split(r"[(),:]\s*| is a ", rest)):
            is_by_place = is_by_place and not part.startswith("*")
            is_marked = part.partition("=")[0] in provisional.strip(": ").split(", ")
            if part.strip() and not is_marked:
                yield place, name.strip(), f"{number} {part}" if is_by_place else part


def missing(before: Iterable[str], now: Iterable[str]) -> set[str]:
    return {
        ": ".join(filter(None, promise))
        for promise in {*promises(before)} - {*promises(now)}
    }


def test_no_name_of_a_release_is_missing(release: Path) -> None:
    before = (release / public_names.FILE.name).read_text(encoding="utf-8").splitlines()
    assert missing(before, public_names.lines()) == {*GONE}


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [
        ("f(a, b=1)", "f(a, b=1, *, c=2)", set()),
        ("f(a, *, b=1)", "f(a, *, c=2, b=1)", set()),
        ("f(a, *, b=1)  # provisional: b", "f(a, *, c=2)", set()),
        ("class A(b)  # provisional\n    x\nf(a)", "f(a)", set()),
        ("f(a)  # provisional", "", set()),
        ("f(a)", "f(a)  # provisional", {"f", "f: 1 a"}),
        ("f(a, b=1)", "f(b=1, a)", {"f: 1 a", "f: 2 b=1"}),
        ("f(a, b=1)", "f(a, *, b=1)", {"f: 2 b=1"}),
        ("f(a, b=1)", "f(a, b=2)", {"f: 2 b=1"}),
        ("class A is a B, C\n    x", "class A is a B, D, C\n    y\n    x", set()),
        ("class A is a B, C\n    x", "class A is a C\n    y", {"class A: B", "class A: x"}),
        ("columns of a trace: path, took", "columns of a trace: path, took, new", set()),
        ("columns of a trace: path, took", "columns of a trace: new, path, took", {
            "columns of a trace: 1 path", "columns of a trace: 2 took"
        }),
    ],
)  # fmt: skip
def test_a_line_may_grow_and_not_shrink(before: str, now: str, lost: set[str]) -> None:
    assert missing(before.split("\n"), now.split("\n")) == lost


def test_the_journal_of_a_release_is_restored(release: Path, tmp_path: Path) -> None:
    """The next format but one takes `run.db.gz` from the folder."""
    shutil.copy(FLOW, tmp_path)
    for name, text in {
        **FILES,
        "out": FILES["in"],
        "copy": FILES["in"],
        "late": "whole\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "run.db").write_bytes(
        gzip.decompress((release / "run.db.gz").read_bytes())
    )
    (tmp_path / "next.py").write_text(NEXT)
    done = python("next.py", cwd=tmp_path, text=True)
    assert done.returncode == 0, done.stderr
    assert {*json.loads(done.stdout)} == {"fails", "first/a", "first/b", "group"}


def test_the_trace_of_a_release_is_read(release: Path, tmp_path: Path) -> None:
    done = trioflow("report", release / "trace.json", "--junit", tmp_path / "run.xml")
    assert done.exit_code == 0, done.output
    cases = {
        case.get("name"): case
        for case in Tree.parse(tmp_path / "run.xml").getroot().iter("testcase")
    }
    assert [name for name, case in cases.items() if len(case)] == ["fails"]
    assert {"give 0", "late", "deploy"} <= cases.keys()


def test_the_events_of_a_release_are_those_of_the_schema(release: Path) -> None:
    kinds = {
        event["event"] for event in checked((release / "events.jsonl").read_text())
    }
    assert kinds >= {
        "run_started",
        "job_added",
        "job_scheduled",
        "job_started",
        "job_settled",
        "run_ended",
    }


def test_the_durations_of_a_release_give_the_order(release: Path) -> None:
    known = json.loads((release / "durations.json").read_text())["seconds"]
    jobs = [Job(anyio.sleep, 0, label=path) for path in known if "/" not in path]
    assert simulate(
        Scheduler(*jobs), durations=release / "durations.json"
    ).makespan == max(known[job.label] for job in jobs)
