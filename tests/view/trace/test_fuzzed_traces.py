"""Mutated trace files, as somebody may send them: to make reports of them and to compare them does no harm."""

import copy
import functools
import json
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
import pytest
from trioflow import CommandJob, Job, Scheduler, Trace
from trioflow.testing import run_virtual
from trioflow.view import _junit, save
from trioflow.view.graph import _dot
from trioflow.view.graph._dot import Statement
from trioflow.view.text._symbols import Symbols
from trioflow.view.trace import _compare, _trace_file
from trioflow.view.trace._trace_record import TOO_MANY_NOTE, GraphDescription
from trioflow.view.trace.report import _report
from trioflow.view.trace.report._report import draw_graph, draw_graphs, report_html
from ...bodies import fail, nap
from .scenarios import everything

"""How many files the short test mutates; the soak test takes ten thousand."""
NESTED: Final = functools.reduce(lambda inner, _: [inner], range(100), [])  # type: ignore[var-annotated]
VALUES: Final = (
    None, True, False, -1, 0, 1, 2, 5, 10**9, 2**53, 2**63, -(2**70), 1e308, -1e308, 1e18, 1e-308, 0.5, "", "x", "1",
    "a\ud800", "\x1b[2J", "failed", "blocked", "y" * 5000, [], {}, [0], [1e17, -1e17], [[0.0, 10**9]], {"0": 0}, NESTED,
)  # fmt: skip


def documents(tmp_path: Path) -> Iterator[Any]:
    """Yield the documents in the trace files of two runs, with all kinds of jobs and records in them."""
    commands = [
        CommandJob("echo hi; exit 3", shell=True, stdout=subprocess.PIPE, label="bad"),
        CommandJob(["true"], stdout=tmp_path / "out", label="file"),
        Job(nap, 0, label="last"),
    ]
    traces = Trace(), Trace()
    run_virtual(functools.partial(everything().co_run, instruments=[traces[0]]))
    Scheduler(*commands, label="commands").run(instruments=[traces[1]])
    for trace in traces:
        save(trace, tmp_path / "t.json")
        yield json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return each container in a document with the keys or indices of its items."""
    items = list(
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [(value, key) for key, _ in items] + [
        place for _, item in items for place in places(item)
    ]


def mutate(record: Any, draw: random.Random) -> None:
    """Replace, remove, repeat or exchange some values of a record."""
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        container, key = draw.choice(places(record) or [({0: 0}, 0)])
        other, other_key = draw.choice(places(record) or [({0: 0}, 0)])
        value = container[key]
        way = draw.randrange(5)
        if way == 0 and isinstance(value, (int, float)):
            container[key] = draw.choice([value + 1, value - 1, -value, value * 1e9])
        elif way == 1:
            container[key] = copy.deepcopy(other[other_key])
        elif way == 2:
            del container[key]
        elif way == 3 and isinstance(container, list):
            container.insert(key, copy.deepcopy(value))
        else:
            container[key] = draw.choice(VALUES)


def harm(seeds: range, tmp_path: Path) -> list[str]:
    """Return what reading mutated files raises, apart from the error that rejects a file, with the seeds."""
    samples, found = [*documents(tmp_path)], list[str]()
    path = tmp_path / "mutated.json"
    rejected = 0
    for seed in seeds:
        draw = random.Random(seed)
        document = copy.deepcopy(draw.choice(samples))
        mutate(document["record"], draw)
        path.write_text(json.dumps(document), encoding="utf-8")
        try:
            record = _trace_file.read_record(path)
            report_html(record, tmp_path)
            if record.root_run:
                _junit.xml_text(record)
            times = _compare.run_times(record)
            "".join(
                _compare.comparison_lines(_compare.compare(times, times), Symbols())
            )
        except _trace_file.BadTrace:
            rejected += 1
        except Exception as error:
            found.append(f"{seed}: {error!r}")
    assert 0 < rejected < len(seeds)
    return found


@pytest.mark.usefixtures("no_dot")
@pytest.mark.parametrize(
    "files",
    [20, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_reading_a_mutated_trace_does_no_harm(tmp_path: Path, files: int) -> None:
    """A mutated trace file is rejected, or all that is made of one can be made of it; no cycle is walked for ever."""
    assert harm(range(files), tmp_path) == []


def put(*path: Any, value: Any) -> Any:
    """Return a function that sets the value at a path of a record."""

    def change(record: Any) -> None:
        *outer, last = path
        for key in outer:
            record = record[key]
        record[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("spans", 0, "parent", value=0), "has another parent than its run"),
        (put("runs", 0, "parent", value=0), "comes before that of its parent, span 0"),
        (put("spans", 0, "parent", value=99), "spans ['99'] are missing"),
        (put("spans", 0, "required", value=[0]), "jobs require each other in a cycle"),
        (put("spans", 0, "blocked_by", value=0), "jobs require each other in a cycle"),
        (put("spans", 0, "started_at", value=1e308), "the number 1e+308 is too large"),
        (
            put("spans", 0, "started_at", value=-1e17),
            "a time is no date between 1970 and 9892",
        ),
        (put("failures", value={}), "the failures of spans [0] are missing"),
        (put("commands", "0", "files", value=[["stdout", "out"]]), "is not absolute"),
        (put("spans", 0, "label", value=NESTED), "Expected `str`, got `array`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_of_a_wrong_structure_or_number_is_rejected(
    tmp_path: Path, change: Any, reason: str
) -> None:
    """A cycle of parents was once walked for ever, and a time of 1e308 ended in a traceback."""
    trace = Trace()
    Scheduler(CommandJob(["false"], label="command")).run(instruments=[trace])
    save(trace, tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    change(document["record"])
    (tmp_path / "t.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(_trace_file.BadTrace, match=re.escape(reason)):
        _trace_file.read_record(tmp_path / "t.json")


@pytest.mark.parametrize("name", ["culprit_number", "blocked_by"])
def test_a_group_that_stops_itself_is_rejected(tmp_path: Path, name: str) -> None:
    """The search for the job that stopped the run once went round for ever."""
    trace = Trace()
    group = Scheduler(Job(fail, label="bad", critical=True), critical=True)
    Scheduler(group, label="all").run(instruments=[trace])
    save(trace, tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    record = document["record"]
    place = {"culprit_number": record["runs"], "blocked_by": record["spans"]}[name]
    place[1][name] = 0
    (tmp_path / "t.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(_trace_file.BadTrace, match="in a cycle"):
        report_html(_trace_file.read_record(tmp_path / "t.json"), tmp_path)


MARKUP: Final = '"/></text></g></svg><meta http-equiv="refresh" content="3;url=http://127.0.0.1:9/"><svg><g><text x="'


def traced_graph(tmp_path: Path) -> tuple[Path, Any, Any]:
    """Return the path and the document of a trace, and the statements of its graph."""
    trace = Trace()
    first = Job(nap, 0, label="first")
    run_virtual(
        functools.partial(
            Scheduler(first, Job(nap, 0, required=first)).co_run, instruments=[trace]
        )
    )
    save(trace, tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    return (
        tmp_path / "t.json",
        document,
        document["record"]["stored_graphs"][0]["statements"],
    )


def test_no_text_of_a_graph_is_markup_or_source(tmp_path: Path) -> None:
    """A trace once had the source of its graph, in which the name of a font was markup for the report."""
    path, document, statements = traced_graph(tmp_path)
    for statement in statements:
        statement.update(label=MARKUP, remarks=[MARKUP, "<b>"], tooltip=MARKUP)
    document["record"]["stored_graphs"][0].update(
        source=f"digraph {{ 1 [fontname={json.dumps(MARKUP)}] }}"
    )
    path.write_text(json.dumps(document), encoding="utf-8")
    page = report_html(_trace_file.read_record(path), tmp_path)
    assert "<meta http-equiv=&quot;refresh" not in page.replace('"', "&quot;")
    assert page.count("<polygon") + page.count("<path") > 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attributes", {"fontname": "x"}), ("attributes", {"URL": "x"}), ("attributes", {"color": MARKUP}),
        ("names", ['"']), ("names", []),
    ],
)  # fmt: skip
def test_a_graph_says_nothing_but_what_a_drawing_says(
    tmp_path: Path, name: str, value: Any
) -> None:
    """Attributes that no drawing has, and values that are more than words, make a trace a damaged one."""
    path, document, statements = traced_graph(tmp_path)
    statements[0][name] = value
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(
        _trace_file.BadTrace, match="a graph has a node that no drawing has"
    ):
        _trace_file.read_record(path)


@pytest.mark.parametrize(
    "inside",
    [
        "<script>1</script>",
        '<image href="x"/>',
        '<g onload="x"/>',
        "<style>*{}</style>",
        "<b",
    ],
)
def test_a_picture_has_shapes_and_texts_alone(inside: str) -> None:
    """What dot gives is read and written anew, by a list of elements and attributes."""
    with pytest.raises(ValueError, match="its picture"):
        _dot.picture_for_page(f'<svg xmlns="http://www.w3.org/2000/svg">{inside}</svg>')


def test_a_picture_may_have_lines_under_its_texts() -> None:
    """`text-decoration`, which dot writes for underlined text, was split in two at its hyphen in the list of names."""
    text = '<svg xmlns="http://www.w3.org/2000/svg"><text text-decoration="underline">a</text></svg>'
    assert 'text-decoration="underline"' in _dot.picture_for_page(text)


def test_the_graphs_of_a_page_have_one_limit_of_time_and_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of a thousand graphs once had two minutes of its own, and thousands of edges in a few bytes."""
    node = Statement("node", ("1",))
    assert draw_graph(GraphDescription((node,) * 5001)).notes == (TOO_MANY_NOTE,)
    monkeypatch.setattr(_report, "MAX_PAGE_SECONDS", 0)
    assert [notes for _, notes in draw_graphs([GraphDescription((node,))] * 1000)] == [
        (_report.TOO_LATE_NOTE,)
    ] * 1000
