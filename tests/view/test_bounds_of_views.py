"""What views show or fetch up to a bound: all of it at the bound, and what is said or done one beyond it."""

import io
import json
import re
import socket
import weakref
from pathlib import Path
from typing import Any
from unittest import mock
import anyio
import pytest
from trioflow import Job, Scheduler, current_job
from trioflow._core.base._text_forms import fit
from trioflow._core.words import _job_queries
from trioflow._core.words._run_view import runs_in_progress
from trioflow.view import _print_ends, _save, listing
from trioflow.view._families import fit_name
from trioflow.view.events import _events
from trioflow.view.events._events import MAX_POLLED_JOBS, Events
from trioflow.view.graph import _dot, _drawing
from trioflow.view.look import (
    _answers,
    _client,
    _console,
    _page,
    _picture,
    _process_record,
    _reload,
    _watch,
)
from trioflow.view.look._console import WatchedRun
from trioflow.view.monitor import _log_display
from trioflow.view.monitor._monitor import Monitor
from trioflow.view.monitor._output_buffer import (
    MAX_PARTIAL_LINE_CHARACTERS,
    split_lines,
)
from trioflow.view.text._failure_text import MAX_STORED_LENGTH
from trioflow.view.text._listing import MAX_ALIGNED_WIDTH
from trioflow.view.trace import _event_log, _time_spent, _timeline, _trace_record
from trioflow.view.trace._spans import CommandOutput, CommandRecord
from trioflow.view.trace._trace_file import to_plain
from trioflow.view.trace._trace_record import TOO_MANY_NOTE, GraphDescription
from trioflow.view.trace.report import _report
from ..bodies import Flaw, fail_now, idle, nap, nothing
from ..conftest import Virtual
from .trace.scenarios import traced


def chain(*labels: str) -> list[Job[Any]]:
    jobs: list[Job[Any]] = []
    for label in labels:
        jobs.append(Job(nap, 1, label=label, required=jobs[-1:]))
    return jobs


# --- the report


@pytest.mark.parametrize("beyond", [0, 1, 2, 3])
def test_the_slowest_chain_has_so_many_lines_and_then_says_how_many_more(
    virtual: Virtual, beyond: int
) -> None:
    """A job alone beyond the bound has its line, because "1 more" would need one, too."""
    bound = _report.MAX_CRITICAL_PATH_LINES
    jobs = chain(*("x" * (number + 1) for number in range(bound + beyond)))
    rows = [
        *_report._critical_path_rows(traced(virtual, Scheduler(jobs))._get_record())
    ]
    names = [row.name for row in rows]
    if beyond < 2:
        assert sorted(names) == sorted(job.label for job in jobs)
    else:
        assert len(names) == bound + 1
        assert names[-1] == f"{beyond} more"


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_chain_of_more_jobs_has_a_line_for_each_family(
    virtual: Virtual, beyond: int
) -> None:
    number = _time_spent.MAX_SINGLE_JOBS + beyond
    jobs = chain(*(f"step {each}" for each in range(number)))
    record = traced(virtual, Scheduler(jobs))._get_record()
    parts = [part.label for part in _time_spent.critical_path_parts(record)]
    if beyond:
        assert parts == [f"step * × {number}"]
    else:
        assert sorted(parts) == sorted(job.label for job in jobs)


# --- the timeline


@pytest.mark.parametrize("beyond", [0, 1, 2])
def test_the_legend_has_so_many_families_and_counts_the_others(
    virtual: Virtual, beyond: int
) -> None:
    bound = _timeline.MAX_COLORED_FAMILIES
    jobs = [Job(nap, 1, label="x" * (each + 1)) for each in range(bound + beyond)]
    picture = _timeline.timeline_svg(traced(virtual, Scheduler(jobs))._get_record())
    assert len(re.findall(r'class="legend"[^>]*>x+, 1 s<', picture)) == bound
    others = re.findall(r">(\d+) other famil(?:y|ies): (\d+)<", picture)
    assert others == [(str(beyond), str(beyond))] * bool(beyond)


def test_bars_of_many_jobs_are_linked_to_them_in_records_that_are_not_too_large(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = chain(*(f"step {each}" for each in range(1000)))
    record = traced(virtual, Scheduler(jobs))._get_record()
    for beyond in (0, 1):
        monkeypatch.setattr(_timeline, "MAX_LINKED_SPANS", len(jobs) - beyond)
        has_links = "data-numbers" in _timeline.timeline_svg(record)
        assert has_links is not bool(beyond)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_note_names_so_many_jobs_and_counts_all(
    virtual: Virtual, beyond: int
) -> None:
    number = _timeline.MAX_NAMED_JOBS + beyond
    bad = Job(fail_now, Flaw("x"))
    behind = [Job(nothing, label=f"b{n}", required=bad) for n in range(number)]
    scheduler = Scheduler(bad, behind)
    picture = _timeline.timeline_svg(traced(virtual, scheduler)._get_record())
    assert f">{number} never started, blocked: b0" in picture
    [names] = re.findall(r"<title>(b0, .*?)</title>", picture)
    assert len(re.findall(r"b\d", names)) == _timeline.MAX_NAMED_JOBS
    assert names.endswith(", …") is bool(beyond)


# --- graphs


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_page_draws_no_graph_of_more_statements(
    monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    """A file of a stranger may have many; at the bound, they are given to `dot`, whether it is installed or not."""
    boxes = tuple(_dot.Statement("node", (f"{n}",), label="x") for n in range(4))
    monkeypatch.setattr(_report, "MAX_STATEMENTS", len(boxes) - beyond)
    drawn = _report.draw_graph(GraphDescription(boxes))
    assert (drawn.notes == (TOO_MANY_NOTE,)) is bool(beyond)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_label_has_so_many_columns_and_lines(beyond: int) -> None:
    words = ["w" * (_dot.MAX_LABEL_WIDTH + beyond)] * _dot.MAX_LABEL_LINES
    words += ["w"] * beyond

    def lines(label: str) -> list[str]:
        statement = _dot.Statement("node", ("1",), label=label)
        return statement.dot_attributes()["label"].split(r"\n")

    assert len(lines(words[0])) == 1 + beyond
    shown = lines(" ".join(words))
    assert len(shown) == _dot.MAX_LABEL_LINES
    assert shown[-1].endswith("…") is bool(beyond)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_graph_of_more_boxes_is_folded_or_lies_on_its_side(beyond: int) -> None:
    number = _drawing.MAX_READABLE_BOXES + beyond
    scheduler = Scheduler(*(Job(nothing, label=f"page {n}") for n in range(number)))
    whole = _drawing.Drawing(scheduler, False, {})
    folded = _drawing.Drawing(scheduler, True, {})
    assert (whole.box_count, whole.direction) == (number, ["TB", "LR"][beyond])
    assert folded.box_count == (1 if beyond else number)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_tooltip_has_the_end_of_a_path_that_is_too_long(beyond: int) -> None:
    path = "p" * (_drawing.MAX_PATH_LENGTH + beyond)
    tooltip = _drawing.tooltip_text(Job(nothing), path)
    shown = tooltip.removeprefix("Job: ").removesuffix(" (idle)")
    assert len(shown) == _drawing.MAX_PATH_LENGTH
    assert shown.startswith("…") is bool(beyond)


# --- the page


def watch(virtual: Virtual, look: Any, *jobs: Any) -> None:
    """Give `look` what a page and the program know of a run, after a second of it."""

    async def eye() -> None:
        await anyio.sleep(1)
        seen = _watch.Watch(runs_in_progress()[0])
        look(WatchedRun(), seen)
        seen.close()

    eyes = Job(eye, forever=True, label="eye")
    virtual(Scheduler(*jobs, eyes, label="run", critical_jobs=False).co_run)


def update(run: WatchedRun, eye: _watch.Watch) -> None:
    run.update(json.loads(json.dumps({"may_steer": False, **eye.answer()})))


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_button_tries_so_many_jobs_again_and_the_page_counts_all(
    virtual: Virtual, beyond: int
) -> None:
    number = _console.MAX_RETRIED + beyond
    bad = [Job(fail_now, Flaw("x"), label=f"bad {n}") for n in range(number)]
    rows = list[Any]()

    def look(run: WatchedRun, eye: _watch.Watch) -> None:
        update(run, eye)
        rows.extend(_console.console(run, "", False)["failed"])

    watch(virtual, look, bad, Job(nap, 9))
    [[_, count, *_, keys]] = rows
    assert (count, len(keys)) == (number, _console.MAX_RETRIED)


@pytest.mark.parametrize("beyond", [0, 1])
def test_an_answer_tells_of_so_many_jobs_and_says_that_there_are_more(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    monkeypatch.setattr(_watch, "MAX_TOLD", 30)
    jobs = [Job(nothing) for _ in range(_watch.MAX_TOLD - 2 + beyond)]
    told = list[tuple[int, bool]]()

    def look(run: WatchedRun, eye: _watch.Watch) -> None:
        for _ in range(1 + beyond):
            update(run, eye)
            told.append((len(run.jobs), run.answer["more"]))

    watch(virtual, look, jobs, Job(nap, 9))
    assert (
        told
        == [(_watch.MAX_TOLD, bool(beyond)), (_watch.MAX_TOLD + 1, False)][: 1 + beyond]
    )


@pytest.mark.parametrize("beyond", [0, 1, 2])
def test_the_page_explains_so_many_groups_of_waits_and_counts_the_rest(
    virtual: Virtual, beyond: int
) -> None:
    groups = [
        Scheduler(Job(nap, 9), Job(nap, 9), jobs_window=1, label=f"group {n}")
        for n in range(_watch.MAX_GROUPS + beyond)
    ]
    told = list[Any]()

    def look(run: WatchedRun, eye: _watch.Watch) -> None:
        update(run, eye)
        told.append((len(run.answer["waiting"]), run.answer["unexplained"]))

    watch(virtual, look, groups)
    assert told == [(_watch.MAX_GROUPS, beyond)]


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_page_has_the_beginning_of_a_long_result(
    virtual: Virtual, beyond: int
) -> None:
    async def long() -> str:
        return "x" * _watch.MAX_TAIL + "y" * beyond

    told = list[Any]()

    def look(run: WatchedRun, eye: _watch.Watch) -> None:
        update(run, eye)
        [key] = [n for n, (_, job) in run.jobs.items() if job.span.label == "long"]
        told.append(eye.describe_one(key)["result"])

    watch(virtual, look, Job(long, label="long"), Job(nap, 9))
    assert told == ["x" * _watch.MAX_TAIL]


# --- `trioflow look`


def looked_at(virtual: Virtual, *jobs: Any, **options: Any) -> list[str]:
    lines = list[str]()

    async def eye() -> None:
        await anyio.sleep(1)
        record = _process_record.describe_process()
        lines.extend(_client.text_lines(1, record))

    eyes = Job(eye, forever=True, label="eye")
    virtual(Scheduler(*jobs, eyes, label="run", **options).co_run)
    return lines


@pytest.mark.parametrize("beyond", [0, 1, 2])
def test_a_section_has_so_many_lines_and_then_says_of_how_many_jobs_more(
    virtual: Virtual, beyond: int
) -> None:
    """The job that looks has a line, too."""
    running = [
        Job(nap, 9, label=f"page {n}") for n in range(_client.MAX_LINES - 1 + beyond)
    ]
    lines = looked_at(virtual, running)
    shown = sum(bool(re.match("  (page|eye)", line)) for line in lines)
    more = re.findall(r"  and (\d+) jobs? more", "\n".join(lines))
    assert (shown, more) == (_client.MAX_LINES, [str(beyond)] * bool(beyond))


@pytest.mark.parametrize("beyond", [0, 1, 2])
def test_a_line_names_so_many_waiting_jobs_and_counts_the_others(
    virtual: Virtual, beyond: int
) -> None:
    waiting = [Job(nap, 1, label=f"w{n}") for n in range(_client.MAX_NAMES + beyond)]
    lines = looked_at(virtual, Job(nap, 9, label="first"), waiting, jobs_window=1)
    [line] = [line for line in lines if line.startswith("  w0")]
    assert len(re.findall(r"\bw\d", line)) == _client.MAX_NAMES
    assert re.findall(r"and (\d+) more", line) == [str(beyond)] * bool(beyond)


# --- events, notebooks, logs


@pytest.mark.parametrize("beyond", [0, 1])
def test_events_ask_so_many_jobs_what_they_wait_for(
    virtual: Virtual, tmp_path: Path, beyond: int
) -> None:
    events = Events(tmp_path / "events.jsonl")
    waiting = [Job(nap, 0) for _ in range(MAX_POLLED_JOBS + beyond)]
    told = list[bytes]()

    async def eye() -> None:
        await anyio.sleep(1)
        for polled in events._waiting_jobs.values():
            polled.last_written_values = None  # the thread of the file may have asked
        told.extend(line for _, line in events._poll_jobs() if b"job_waiting" in line)

    scheduler = Scheduler(
        Job(nap, 9),
        waiting,
        Job(eye, forever=True),
        jobs_window=1,
        instruments=[events],
    )
    virtual(scheduler.co_run)
    assert len(told) == MAX_POLLED_JOBS


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_notebook_lists_a_scheduler_that_is_not_too_large(beyond: int) -> None:
    jobs = [Job(nothing) for _ in range(_save.MAX_LISTED_JOBS + beyond)]
    scheduler = Scheduler(*jobs)
    text = _save.scheduler_bundle(scheduler)["text/plain"]
    assert text == (repr(scheduler) if beyond else _save.listing(scheduler))


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_notebook_draws_a_scheduler_that_is_not_too_large(
    monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    scheduler = Scheduler(Job(nothing), Job(nothing))
    lines = _drawing.mermaid(scheduler, {}).count("\n")
    monkeypatch.setattr(_save, "MAX_GRAPH_ELEMENTS", lines - beyond)
    has_picture = len(_save.scheduler_bundle(scheduler)) > 1
    assert has_picture is not bool(beyond)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_log_has_a_line_for_each_job_of_a_run_that_is_not_too_large(
    virtual: Virtual, beyond: int
) -> None:
    number = _log_display.MAX_LISTED_JOBS + beyond
    log = io.StringIO()
    jobs = [Job(nothing, label=f"j{n}") for n in range(number)]
    virtual(Scheduler(*jobs, instruments=[Monitor(file=log)]).co_run)
    lines = log.getvalue().splitlines()
    ends = [line for line in lines if re.search(r"\bsucceeded j\d", line)]
    steps = [line for line in lines if re.search(r"\d% ", line)]
    assert (len(ends), bool(steps)) == ((0, True) if beyond else (number, False))


# --- text


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_line_of_a_listing_is_aligned_unless_it_is_too_wide(beyond: int) -> None:
    """The widest line that is aligned decides where the others go on."""
    first = idle("a")
    left = f"2    ·    <AbstractJob {'b' * beyond}>"
    second = idle("b" * (MAX_ALIGNED_WIDTH + 2 * beyond - len(left)), required=first)
    lines = listing(Scheduler(first, second, idle("c", required=first))).splitlines()
    places = [line.index("  requires={1}") for line in lines[1:]]
    narrow = len("3    ·    <AbstractJob c>")
    assert places == [
        MAX_ALIGNED_WIDTH + beyond,
        narrow if beyond else MAX_ALIGNED_WIDTH,
    ]


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_file_has_so_much_of_an_exception(beyond: int) -> None:
    message = "x" * (MAX_STORED_LENGTH + beyond - len("Flaw: "))
    stored = to_plain(Flaw(message))
    assert len(stored) == MAX_STORED_LENGTH
    assert stored == (f"Flaw: {message[:-4]}..." if beyond else f"Flaw: {message}")


# --- what jobs print


def test_the_end_of_what_a_job_prints_has_so_many_characters(virtual: Virtual) -> None:
    """More is cut now and then, and not at each print."""
    bound = _print_ends.MAX_LENGTH
    text = "".join(f"{number:04d}," for number in range(bound))

    async def say(length: int) -> None:
        for begin in range(0, length, 999):
            _print_ends.keep_end(current_job(), text[begin : min(begin + 999, length)])

    lengths = [0, 1, bound, bound + 1, 2 * bound, 2 * bound + 1, 4 * bound]
    jobs = [Job(say, length) for length in lengths]
    virtual(Scheduler(*jobs).co_run)
    ends = [_print_ends.end_of_prints(job, job.started_at) for job in jobs]
    assert ends == [text[:length][-bound:] for length in lengths]


@pytest.mark.parametrize("beyond", [0, 1])
def test_so_many_failed_jobs_are_passed_over_before_the_oldest_output_goes(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    """A job that went well gives way to them: one behind more failed jobs stays."""
    number = _print_ends.MAX_SPARED + beyond
    monkeypatch.setattr(_print_ends, "MAX_JOBS", number + 1)
    monkeypatch.setattr(_print_ends, "_ends", weakref.WeakKeyDictionary())

    async def work(error: Flaw | None = None) -> None:
        _print_ends.keep_end(current_job(), "said")
        if error is not None:
            raise error

    bad = [Job(work, Flaw("x")) for _ in range(number)]
    good, last = Job(work), Job(work)
    virtual(Scheduler(bad, good, last, jobs_window=1, log=False).co_run)
    dropped = [
        job
        for job in (*bad, good, last)
        if not _print_ends.end_of_prints(job, job.started_at)
    ]
    assert dropped == [bad[-1] if beyond else good]


@pytest.mark.parametrize(
    ("first", "second", "lines", "partial"),
    [
        ("", "a", [], "a"),
        ("", "b\n", ["b"], ""),
        ("", "a\nb\nc", ["a", "b"], "c"),
        ("x", "", [], "x"),
        ("x", "y", ["xy"], ""),
        ("x", "y\n", ["xy"], ""),
        ("x", "\rab", [], "ab"),
        ("x", "\rab\r", [], "ab\r"),
        ("x", "\r", ["x\r"], ""),
    ],
)
def test_a_line_without_an_end_has_so_many_characters(
    first: str, second: str, lines: list[str], partial: str
) -> None:
    """A longer one counts as complete, unless a carriage return overwrites enough of it: a bar without end."""
    whole = "x" * MAX_PARTIAL_LINE_CHARACTERS
    shown = [line.replace("x", whole) for line in lines]
    assert split_lines(first.replace("x", whole) + second) == (
        shown,
        partial.replace("x", whole),
    )


@pytest.mark.parametrize("beyond", [0, 1])
def test_events_forget_so_many_dropped_jobs_later(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    """If the hooks are called no more, the jobs that a run drops pile up no further."""
    assert Events(io.StringIO())._dropped_jobs.maxlen == _events.MAX_DROPPED
    monkeypatch.setattr(_events, "MAX_DROPPED", 3)
    monkeypatch.setattr(Events, "job_settled", lambda *_: None)
    events = Events(io.StringIO())
    jobs = [Job(nothing, label=f"j{n}") for n in range(3 + beyond)]
    kept = list[list[str]]()

    async def feed() -> None:
        for job in jobs:
            scheduler.add(job)
        await anyio.sleep(1)
        kept.append([job.label for job in events._dropped_jobs])

    scheduler = Scheduler(Job(feed), keep_jobs=False, instruments=[events])
    virtual(scheduler.co_run)
    assert kept == [[job.label for job in jobs][-3:]]


# --- requests


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_program_reads_so_much_of_a_question(beyond: int) -> None:
    """A longer one is cut, and so is none."""
    asked = {"watch": "", "run": ""}
    asked["run"] = "x" * (_answers.MAX_REQUEST_SIZE + beyond - len(json.dumps(asked)))
    mine, its = socket.socketpair()
    with mine, its:
        mine.sendall(json.dumps(asked).encode())
        assert _answers._read_request(its) == ({} if beyond else asked)


class Request:
    """A request to a page, without a connection: what was read of it, and what was answered."""

    def __init__(self, data: bytes = b"") -> None:
        self.rfile = io.BytesIO(data)
        self.rfile.read1 = lambda: self.rfile.read(1)  # type: ignore[assignment, misc]
        self.wfile = io.BytesIO()
        self.sent = list[Any]()
        self.connection: Any = mock.Mock()
        self.close_connection = False

    def _send(self, *answer: object) -> None:
        self.sent.append(answer)

    _send_headers = _send


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_so_much_of_a_refused_request_is_read(
    monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    monkeypatch.setattr(_page, "MAX_IGNORED_SIZE", 9)
    request: Any = Request(b"x" * (9 + beyond))
    _page.PageHandler._refuse(request)
    assert request.rfile.tell() == 9 + min(0, beyond)
    assert request.sent == [(403, _page.REFUSAL, _page.PLAIN_TEXT)]


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_browser_shows_a_file_that_is_not_larger(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, beyond: int
) -> None:
    monkeypatch.setattr(_page, "MAX_SHOWN_SIZE", 9)
    monkeypatch.setattr(_page, "CHUNK_SIZE", 4)
    file = tmp_path / "out.txt"
    file.write_bytes(b"123456789"[:9] + b"x" * beyond)
    request: Any = Request()
    _page.PageHandler._send_file(request, str(file))
    [(status, size, headers)] = request.sent
    assert (status, size) == (200, 9 + beyond)
    kind = headers["Content-Disposition"]
    assert kind == f'{"attachment" if beyond else "inline"}; filename="output.txt"'
    assert request.wfile.getvalue() == file.read_bytes()
    assert not request.close_connection


# --- the graph of the page


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_graph_of_more_boxes_or_edges_is_not_tried(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    """A box needs at least one other. Of the two bounds on boxes, one is for boxes with labels."""
    jobs = chain("a", "ab", "abc", "abcd")
    found = list[dict[str, bool]]()

    def look(run: WatchedRun, eye: _watch.Watch) -> None:
        update(run, eye)
        plan = _picture.Picture(run)._plans[_picture.JOBS]
        boxes = len(plan.titles) - beyond
        bounds: list[tuple[Any, str, int, bool]] = [
            (_picture, "MAX_LABELS", boxes, True),
            (_trace_record, "MAX_BOXES", boxes, False),
            (_picture, "MAX_EDGES", len(plan.edges) - beyond, True),
        ]
        can = dict[str, bool]()
        for module, name, value, has_labels in bounds:
            with monkeypatch.context() as patch:
                patch.setattr(module, name, value)
                can[name] = plan.can_be_read(has_labels)
        found.append(can)

    watch(virtual, look, jobs)
    is_within = not beyond
    assert found == [dict.fromkeys(["MAX_LABELS", "MAX_BOXES", "MAX_EDGES"], is_within)]
    assert (_picture.MAX_LABELS, _trace_record.MAX_BOXES) == (60, 300)
    assert _picture.MAX_EDGES == 3000


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_box_of_the_graph_has_so_much_of_a_label_and_a_frame_twice_as_much(
    virtual: Virtual, beyond: int
) -> None:
    job = Job(nap, 9, label="j" * (_picture.MAX_LABEL + beyond))
    group = Scheduler(job, Job(nap, 9), label="g" * (2 * _picture.MAX_LABEL + beyond))
    told = list[str]()

    def look(run: WatchedRun, eye: _watch.Watch) -> None:
        update(run, eye)
        plan = _picture.Picture(run)._plans[_picture.JOBS]
        names = {place: f"n{number}" for number, place in enumerate(plan.titles)}
        writer = _picture.PictureWriter(plan, names, True, "TB")
        told.extend(str(each.label) for each in writer.statements())

    watch(virtual, look, group)
    for label in (job.label, group.label):
        assert (label in told) is not bool(beyond)
    assert fit_name(job.label, _picture.MAX_LABEL) in told
    assert fit_name(group.label, 2 * _picture.MAX_LABEL) in told


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_report_has_a_graph_of_so_many_boxes(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    """Also in the last answer to a page, whose graph then has a critical path."""
    scheduler = Scheduler(chain("a", "ab", "abc", "abcd"))
    record = traced(virtual, scheduler)._get_record()
    monkeypatch.setattr(_trace_record, "MAX_BOXES", 4 - beyond)
    graph = _trace_record.describe_graph(scheduler, record.critical_path_jobs)
    assert (graph.notes == (TOO_MANY_NOTE,)) is bool(beyond)
    assert bool(graph.statements) is not bool(beyond)


# --- reloads


@pytest.mark.parametrize("beyond", [0, 1, 2])
def test_an_answer_names_so_many_files_and_counts_the_others(beyond: int) -> None:
    files = [f"/x/f{number}.py" for number in range(_reload.MAX_NAMED + beyond)]
    names = [file.removeprefix("/x/") for file in files]
    shown = ", ".join(names[: _reload.MAX_NAMED])
    if beyond:
        shown += f" and {beyond} more"
    assert _reload._name_files(files) == shown


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_function_in_so_many_containers_that_nothing_keeps_may_be_mended(
    beyond: int,
) -> None:
    """In more, it is as one that is kept."""

    def function() -> None: ...

    containers = [[function] for _ in range(_reload.MAX_CONTAINERS + beyond)]
    assert _reload._is_kept([function], {*map(id, containers)}) is bool(beyond)


# --- outputs and texts


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_report_has_so_many_bytes_from_the_end_of_an_output(beyond: int) -> None:
    text = "x" * beyond + "y" * _report.MAX_OUTPUT_BYTES
    output = CommandOutput("stdout", text, 0)
    command = CommandRecord("true", 0, 1.0, 0.0, 0.0, None, (output,))
    shown = [text for _, text in _report.command_outputs(command)]
    assert shown == ["y" * _report.MAX_OUTPUT_BYTES]


def test_a_trace_has_less_of_the_output_of_a_command_that_has_succeeded(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = dict[str, int]()

    def record_command(job: Any, max_bytes: int) -> None:
        asked[job.label] = max_bytes

    monkeypatch.setattr(_event_log, "record_command", record_command)
    monkeypatch.setattr(_job_queries, "runs_commands", lambda _: True)
    good = Job(nap, label="good")
    bad = Job(fail_now, Flaw("x"), label="bad")
    virtual(Scheduler(good, bad, Job(nap, required=bad), critical_jobs=False).co_run)
    for job in (good, bad):
        _event_log.record_outcome(job)
    assert asked == {
        "good": _event_log.MAX_OUTPUT_BYTES,
        "bad": _event_log.MAX_FAILED_OUTPUT_BYTES,
    }


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_text_of_a_timeline_has_so_many_characters(beyond: int) -> None:
    text = "x" * (_timeline.MAX_CHARACTERS + beyond)
    shown = _timeline.clip_text(text, 1e9, 11)
    assert len(shown) == _timeline.MAX_CHARACTERS
    assert shown.endswith("…") is bool(beyond)


# --- names


@pytest.mark.parametrize("width", [12, 18, 32])
def test_names_that_differ_in_numbers_differ_when_they_are_cut(width: int) -> None:
    """Forty boxes had the name "group num…ong name". The numbers stay, and the width holds, wherever they stand."""
    forms = (
        "group number {} of those with a long name",
        "{} is the number of a group with a long name",
        "a group with a rather long name and number {}",
        "group with a long name {}/step of the group {}",
    )
    for form in forms:
        names = [form.format(number, 40 - number) for number in range(40)]
        cut = [fit_name(name, width) for name in names]
        assert len({*cut}) == 40
        assert max(map(len, cut)) <= width


def test_a_name_of_numbers_alone_or_without_any_loses_its_middle() -> None:
    """Numbers that take more than half of the room are cut as all else is."""
    for name in ("1234567890", "verify the checksum", "12345678 a"):
        assert fit_name(name, 8) == fit(name, 8, keep="ends")
    assert fit_name("page 7", 6) == "page 7"
