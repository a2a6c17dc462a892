"""What is shown "up to N" is right at N, and one beyond it: all are named, then one is counted."""

import errno
import logging
import os
import re
import resource
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
import pytest
from trioflow import (
    CommandJob,
    CommandService,
    Job,
    OutputLine,
    Rate,
    Retry,
    Scheduler,
    SshError,
    SshNode,
    SshNodes,
    ThreadJob,
    Trace,
    _check,
    _command_options,
    current_scheduler,
)
from trioflow._check import MAX_NAMED_READERS
from trioflow._core.admission import _rates
from trioflow._core.base._text_forms import (
    MAX_LENGTH,
    MAX_LISTED_NAMES,
    MAX_NAMED_JOBS,
    join_names,
    short_repr,
)
from trioflow._core.job import _labels
from trioflow._core.job._job import MAX_FAILED_ATTEMPTS
from trioflow._core.run import _steps
from trioflow._core.run._failure_counts import MAX_COUNTED_KEPT
from trioflow._core.words._failures import MAX_COMPARED_FRAMES, failure_kind
from trioflow._core.words._job_queries import failure_of
from trioflow.batch import _sources
from trioflow.batch._reporter import (
    MAX_EXIT_CODE,
    MAX_NAMED_COMMANDS,
    CommandFailures,
    CommandTally,
    FailedCommand,
    Reporter,
)
from trioflow.cli import _end_of_run, _node_runner
from trioflow.cli.batch import _batch_run
from trioflow.jobs._user_files import MAX_NAMED_FILES
from trioflow.jobs.command import _argv, _program_service, _result
from trioflow.jobs.command._output_sinks import (
    MAX_KEPT_TAIL_BYTES,
    CaptureSink,
    TailSink,
)
from trioflow.jobs.command._result import MAX_COMMAND_LENGTH
from trioflow.jobs.ssh import _connections, _node_session, _nodes, _wrapper
from ..bodies import Flaw, fail_now, give, nap
from ..conftest import Virtual

BEYOND = pytest.mark.parametrize("beyond", [0, 1])


@BEYOND
def test_a_list_of_names_has_the_first_of_them_and_the_number_of_the_others(
    beyond: int,
) -> None:
    names = [f"n{number}" for number in range(MAX_LISTED_NAMES + beyond)]
    more = " and 1 more" if beyond else ""
    assert join_names(names) == ", ".join(names[:MAX_LISTED_NAMES]) + more


@BEYOND
def test_a_short_form_is_the_whole_value_as_long_as_it_fits(beyond: int) -> None:
    value = "a" * (MAX_LENGTH - len("''") + beyond)
    shown = short_repr(value)
    assert (shown == repr(value)) is not bool(beyond)
    assert len(shown) == MAX_LENGTH


@BEYOND
def test_what_a_job_waits_for_is_named_and_the_others_are_counted(
    virtual: Virtual, beyond: int
) -> None:
    explained: list[str] = []

    async def look() -> None:
        explained.append(current_scheduler().explain(last))

    naps = [
        Job(nap, 1, label=f"n{number}") for number in range(MAX_NAMED_JOBS + beyond)
    ]
    last = Job(give, 1, required=naps, label="last")
    assert virtual(Scheduler(*naps, Job(look), last).co_run)
    names = ", ".join(f"'n{number}'" for number in range(MAX_NAMED_JOBS))
    more = " and 1 more" if beyond else ""
    assert explained[0].startswith(f"'last' waits for {names}{more}: ")


@BEYOND
def test_the_error_of_a_command_has_its_whole_line_as_long_as_it_fits(
    backend: str, beyond: int
) -> None:
    words = ["false", "x" * (MAX_COMMAND_LENGTH - len("false ") + beyond)]
    job = CommandJob(words, log=False)
    Scheduler(job, log=False).run(backend=backend)
    message = str(job.raised_exception()).partition(": ")[2]
    assert (message == " ".join(words)) is not bool(beyond)
    assert len(message) == MAX_COMMAND_LENGTH
    assert message.endswith("...") is bool(beyond)


@BEYOND
def test_the_files_that_a_failed_job_has_left_in_its_directory_are_named(
    backend: str,
    beyond: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)

    def write() -> None:
        for number in range(MAX_NAMED_FILES + beyond):
            Path("out", f"f{number}").write_text("half")
        raise OSError(errno.ENOSPC, "full")

    Path("out").mkdir()
    job = ThreadJob(write, writes=["out"])
    assert not Scheduler(job).run(backend=backend)
    told = caplog.text + "".join(getattr(job.raised_exception(), "__notes__", ()))
    assert os.listdir("out") == []
    assert told.count(".partial") == MAX_NAMED_FILES
    assert ("and 1 more likewise" in told) is bool(beyond)


@BEYOND
def test_readers_that_may_be_too_early_are_named_and_the_others_are_counted(
    backend: str, beyond: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count = MAX_NAMED_READERS + beyond
    readers = [
        ThreadJob(abs, number, reads=[tmp_path / "none"], label=f"r{number}")
        for number in range(count)
    ]
    with caplog.at_level(logging.WARNING):
        Scheduler(*readers).run(backend=backend)
    (line,) = [message for message in caplog.messages if "none" in message]
    assert re.findall(r"'(r\d)'", line) == [
        f"r{number}" for number in range(MAX_NAMED_READERS)
    ]
    assert line.endswith("; 1 more") is bool(beyond)


@BEYOND
def test_failures_of_dropped_jobs_are_raised_and_the_others_are_counted(
    virtual: Virtual, beyond: int
) -> None:
    count = MAX_COUNTED_KEPT + beyond

    async def call_all() -> None:
        for _ in range(count):
            current_scheduler().add(Job(fail_now))

    scheduler = Scheduler(Job(call_all), keep_jobs=False)
    with pytest.raises(ExceptionGroup) as raised:
        virtual(lambda: scheduler.co_run(check=True))
    assert len(raised.value.exceptions) == MAX_COUNTED_KEPT
    assert ("and 1 more" in str(raised.value)) is bool(beyond)


@BEYOND
def test_the_exit_code_of_a_batch_is_the_number_of_failures_up_to_the_last(
    beyond: int,
) -> None:
    tally = CommandTally()
    for _ in range(MAX_EXIT_CODE - 1 + beyond):
        tally.add(1)
    assert tally.exit_code == MAX_EXIT_CODE - 1 + beyond
    tally.add(1)
    assert tally.exit_code == MAX_EXIT_CODE


@BEYOND
def test_missing_input_files_are_looked_for_up_to_a_number(
    backend: str,
    beyond: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(_check, "MAX_LOOKED_FOR", 3 - beyond)
    readers = [
        ThreadJob(abs, number, reads=[tmp_path / f"none {number}"], label=f"{number}")
        for number in range(3)
    ]
    with caplog.at_level(logging.WARNING):
        Scheduler(*readers).run(backend=backend)
    assert "none 1" in caplog.text
    assert ("none 2" in caplog.text) is not bool(beyond)


@pytest.mark.parametrize("missing", [0, 1])
def test_as_many_commands_run_at_once_as_the_bound_and_the_descriptors_allow(
    missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = _command_options.MAX_CONCURRENT_COMMANDS
    each = _command_options.DESCRIPTORS_PER_COMMAND
    enough = most * each + _command_options.RESERVED_DESCRIPTORS
    limits = {
        resource.RLIMIT_NOFILE: enough - missing,
        resource.RLIMIT_NPROC: resource.RLIM_INFINITY,
    }
    monkeypatch.setattr(
        _command_options.posix.resource,
        "getrlimit",
        lambda kind: (limits[kind], limits[kind]),
    )
    assert _command_options.max_concurrent_commands() == most - missing
    limits[resource.RLIMIT_NOFILE] = enough + each
    assert _command_options.max_concurrent_commands() == most


def test_a_reported_use_may_take_a_year_to_accrue_and_no_longer() -> None:
    rate = _rates.RateResource("api", Rate(requests=1, per=1))
    most = _rates.MAX_CAUSED_WAIT
    assert rate.parse_used(most, "used") == {"requests": most}
    with pytest.raises(ValueError, match="takes more than a year to accrue"):
        rate.parse_used(most + 1, "used")


@BEYOND
def test_the_last_of_too_many_shortages_takes_in_what_comes_after_it(
    beyond: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first is empty.
    monkeypatch.setattr(_rates, "MAX_SHORTAGES", 4 - beyond)
    rate, now = _rates.RateResource("api", Rate(requests=1, per=1)), 0.0
    rate.clock = lambda: now
    for _ in range(3):
        rate.let_accrue(rate.take(Job(nap), {"requests": 1}), None)
        rate.note_shortage({"requests": 1})
        now += 10
    kept = [(0, 1), (10, 21)] if beyond else [(0, 1), (10, 11), (20, 21)]
    assert rate.shortages[1:] == kept


@BEYOND
def test_the_last_failed_attempts_are_kept(virtual: Virtual, beyond: int) -> None:
    count, trace = MAX_FAILED_ATTEMPTS + beyond, Trace()
    job = Job(fail_now, retry=Retry(count, first=1, factor=1, jitter=False), log=False)
    assert not virtual(partial(Scheduler(job).co_run, instruments=[trace]))
    (span,) = [span for span in trace.spans if span.path == job.path]
    numbers = [number for number, _, _ in span.failed_attempts]
    assert numbers == [*range(1 + beyond, count + 1)]


@BEYOND
def test_a_default_label_shows_calls_in_its_call_down_to_a_depth(beyond: int) -> None:
    async def f(value: Any) -> Any:
        return value

    value: Any = 1
    for _ in range(1 + _labels.MAX_DEPTH + beyond):
        value = Job(f, value)
    inner = "f(…)" if beyond else "f(1)"
    depth = _labels.MAX_DEPTH
    assert value.label == "f(" * depth + inner + ")" * depth


@BEYOND
def test_the_texts_of_the_last_lost_jobs_are_known(beyond: int) -> None:
    texts = [
        repr(Job(nap, label=f"lost {beyond} {number}"))
        for number in range(_labels.MAX_LOST + beyond)
    ]
    assert _labels.job_in(f"sum up {texts[1]}") == texts[1]
    assert _labels.job_in(f"sum up {texts[0]}") == (None if beyond else texts[0])


@BEYOND
def test_the_text_of_a_job_is_found_up_to_a_length(beyond: int) -> None:
    rest = len(repr(Job(nap, label="")))
    job = Job(nap, label="x" * (_labels.MAX_TEXT_LENGTH - rest + beyond))
    assert len(repr(job)) == _labels.MAX_TEXT_LENGTH + beyond
    assert _labels.job_in(f"sum up {job!r}") is (None if beyond else job)


@BEYOND
def test_the_text_of_a_job_is_found_among_the_first_that_look_like_one(
    beyond: int,
) -> None:
    job = Job(nap, label="found")
    before = ", idle>" * (_labels.MAX_ENDS - 1 + beyond)
    assert _labels.job_in(f"{before}{job!r}") is (None if beyond else job)


@BEYOND
def test_a_job_is_called_at_one_instant_up_to_a_number_of_times(
    virtual: Virtual, beyond: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_steps, "MAX_INSTANT_ATTEMPTS", 20)
    calls: list[None] = []

    async def succeed_at_last() -> None:
        calls.append(None)
        if len(calls) < 20 + beyond:
            raise Flaw

    job = Job(succeed_at_last, retry=Retry(None, first=0), log=False)
    assert virtual(Scheduler(job).co_run) is not bool(beyond)
    assert len(calls) == 20
    if beyond:
        error = job.raised_exception()
        assert "was called 20 times at one instant" in str(error)


@pytest.mark.parametrize("beyond", [-1, 0])
def test_failures_are_alike_if_their_innermost_frames_are(
    virtual: Virtual, beyond: int
) -> None:
    def dive(depth: int) -> None:
        if depth == 1:
            raise Flaw
        dive(depth - 1)

    async def body(is_other: bool) -> None:
        # This frame is the outermost of those that are compared, or it is left out.
        if is_other:
            dive(MAX_COMPARED_FRAMES + beyond)
        else:
            dive(MAX_COMPARED_FRAMES + beyond)

    jobs = [Job(body, is_other, log=False) for is_other in (False, True)]
    assert not virtual(Scheduler(*jobs).co_run)
    kinds = set[tuple[object, ...]]()
    for job in jobs:
        failure = failure_of(job)
        assert failure is not None
        kinds.add(failure_kind(job, failure))
    assert len(kinds) == (1 if beyond == 0 else 2)


@BEYOND
def test_the_lines_of_a_file_are_counted_before_a_batch_up_to_a_size(
    tmp_path: Path, beyond: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sources, "MAX_COUNTED_SIZE", 8 - beyond)
    file = tmp_path / "items"
    file.write_text("a\nb\nc\nd\n")
    _, groups = _sources.parse_sources(["echo"], [str(file)])
    product = _sources.SourceProduct(groups)
    assert product.total == (None if beyond else 4)
    assert [*product.iter_arguments(blocking=True)] == [(each,) for each in "abcd"]
    product.close()


@BEYOND
def test_the_label_of_a_command_is_its_whole_line_as_long_as_it_fits(
    beyond: int,
) -> None:
    words = ["echo", "x" * (_argv.MAX_LABEL_LENGTH - len("echo ") + beyond)]
    label = CommandJob(words).label
    assert (label == " ".join(words)) is not bool(beyond)
    assert len(label) == _argv.MAX_LABEL_LENGTH


@BEYOND
def test_the_end_of_an_output_is_kept(beyond: int) -> None:
    sink, said = TailSink(), bytes(number % 251 for number in range(2000))
    said = (said * 3)[: MAX_KEPT_TAIL_BYTES + beyond]
    sink.write(said[:1])
    sink.write(said[1:])
    assert sink.tail(2 * MAX_KEPT_TAIL_BYTES) == said[beyond:]


def test_check_takes_exit_codes_up_to_the_largest(backend: str) -> None:
    most = _result.MAX_EXIT_CODE
    job = CommandJob(["sh", "-c", f"exit {most}"], check=[most])
    assert Scheduler(job).run(backend=backend)
    with pytest.raises(ValueError, match=f"from 0 to {most}"):
        CommandJob(["false"], check=[most + 1])


@BEYOND
def test_the_directory_for_sockets_is_where_their_paths_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    most = _connections.MAX_DIRECTORY_BYTES
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        length = most - len("/trioflow-12345678") + beyond
        parent = os.path.join(folder, "x" * (length - len(folder) - 1))
        os.mkdir(parent, 0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", parent)
        made = _connections._make_private_directory()
        os.rmdir(made)
        assert (os.path.dirname(made) == parent) is not bool(beyond)
        assert len(made) <= most


def test_a_session_that_a_node_refuses_is_asked_for_up_to_a_number_of_times() -> None:
    node = SshNode("node")
    connection: Any = SimpleNamespace(node=node, refusals={})
    name = _connections._SESSION_RESOURCES.setdefault(node, "sessions")
    jobs = [Job(nap), Job(nap)]
    for job in jobs:
        for _ in range(_connections.MAX_REFUSALS):
            asked = _connections.Connection.throttle(connection, job)
            assert asked is not None
            assert asked.key == name
        assert _connections.Connection.throttle(connection, job) is None


@BEYOND
def test_the_names_of_nodes_have_a_number_of_characters_in_all(
    monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    monkeypatch.setattr(_nodes, "MAX_CHARACTERS", 5 * len("node1") - beyond)
    if beyond:
        with pytest.raises(ValueError, match="more than the limit"):
            SshNodes("node[1-5]")
    else:
        assert len(SshNodes("node[1-5]")) == 5


@BEYOND
def test_the_number_of_a_node_has_digits_up_to_a_number(beyond: int) -> None:
    zeros = "0" * (_nodes.MAX_DIGITS - 1 + beyond)
    if beyond:
        with pytest.raises(ValueError, match="more than the limit"):
            SshNodes(f"n[{zeros}1-{zeros}2]")
    else:
        assert len(SshNodes(f"n[{zeros}1-{zeros}2]")) == 2


@BEYOND
def test_what_a_node_writes_after_a_mark_may_be_a_report_up_to_a_length(
    beyond: int,
) -> None:
    sink = CaptureSink()
    token = "0123456789abcdef"
    reader = _wrapper.ReportFilter(token, [sink], sink, lambda: None)
    said = f"{_wrapper.MARK}{token} ".encode()
    said += b"x" * (_wrapper.MAX_REPORT_BYTES + beyond)
    reader.write(said)
    assert sink.output() == (said if beyond else b"")


@BEYOND
def test_a_failed_service_shows_its_last_lines(
    backend: str, beyond: int, caplog: pytest.LogCaptureFixture
) -> None:
    count = _program_service.MAX_KEPT_LINES + beyond
    command = ["sh", "-c", f"seq {count}; exit 3"]
    service = CommandService(
        command, ready=OutputLine("never"), on_line=lambda _, line: None
    )
    assert not Scheduler(service).run(backend=backend)
    shown = str(service.raised_exception()).split()
    last = [str(number) for number in range(1 + beyond, count + 1)]
    assert shown[-len(last) :] == last
    assert ("1" in shown) is not bool(beyond)


@BEYOND
def test_a_kind_of_failure_names_its_first_commands_and_counts_the_others(
    beyond: int,
) -> None:
    names = [f"c{number}" for number in range(MAX_NAMED_COMMANDS + beyond)]
    similar = CommandFailures("exit code 1", False, dict(enumerate(names)))
    more = " and 1 more" if beyond else ""
    shown = ", ".join(names[:MAX_NAMED_COMMANDS]) + more
    assert _batch_run.failure_line(similar, 120) == f"{shown}: exit code 1"


@BEYOND
def test_the_end_of_a_run_names_the_first_of_a_list_and_counts_the_others(
    beyond: int,
) -> None:
    texts = [f"t{number}" for number in range(_end_of_run.MAX_NAMED_JOBS + beyond)]
    summary = _end_of_run.RunSummaryText(Scheduler(), 0, None)
    shown = summary._fit_items([*enumerate(texts)])
    words = re.findall(r"\w[\w ]*\w", shown)
    more = ["1 more"] if beyond else []
    assert words == [*texts[: _end_of_run.MAX_NAMED_JOBS], *more]


@BEYOND
def test_the_end_of_a_run_has_the_whole_path_of_a_job_as_long_as_it_fits(
    beyond: int,
) -> None:
    path = "x" * (_end_of_run.MAX_PATH_LENGTH + beyond)
    summary = _end_of_run.RunSummaryText(Scheduler(), 0, None)
    shown = summary._short_path(path)
    assert (shown == path) is not bool(beyond)
    assert len(shown) == _end_of_run.MAX_PATH_LENGTH


@BEYOND
def test_the_exit_code_of_a_command_on_nodes_is_the_number_of_failures_up_to_the_last(
    beyond: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = _node_runner.MAX_EXIT_CODE - 1 + beyond
    nodes = [SshNode(f"n{number}") for number in range(count)]
    options = SimpleNamespace(jobs=None)
    run = _node_runner.NodeRun(cast(Any, options), nodes)

    async def fail_on_node(node: Any) -> None:
        run._outcomes[node] = _node_runner.NodeOutcome("exit code 1")

    monkeypatch.setattr(run, "_run_on_node", fail_on_node)
    assert run._run() == count
    run._outcomes[SshNode("another")] = _node_runner.NodeOutcome("exit code 1")
    assert run._run() == _node_runner.MAX_EXIT_CODE


def test_a_kind_of_failure_is_gone_with_its_last_command() -> None:
    """The next failure of this kind is the first one again, and has a message at once."""
    kind = ("exit code", 3)
    similar = CommandFailures("exit code 3", False, {1: "a", 2: "b"}, was_reported=True)
    reporter: Any = SimpleNamespace(
        tally=CommandTally(failed_count=2), failures={kind: similar}
    )
    Reporter.take_back(reporter, FailedCommand(1, ("a",), "a", kind))
    assert reporter.failures == {kind: similar}
    assert similar.lines == {2: "b"}
    Reporter.take_back(reporter, FailedCommand(2, ("b",), "b", kind))
    assert (reporter.failures, reporter.tally.failed_count) == ({}, 0)


def test_a_command_whose_connection_is_lost_before_it_starts_is_tried_a_number_of_times(
    virtual: Virtual,
) -> None:
    """And one that may have started is never tried again."""
    connection: Any = object.__new__(_connections.Connection)
    connection.node = SshNode("node")
    session: Any = SimpleNamespace(connection=connection, job=Job(nap))
    not_started = b"Connection closed by UNKNOWN port 65535"

    async def main() -> None:
        policy = _node_session._RetryPolicy(session, "echo")
        for _ in range(_node_session.MAX_ATTEMPTS - 1):
            await policy.wait_for_retry(not_started, 0)
        with pytest.raises(SshError, match="the connection was lost") as raised:
            await policy.wait_for_retry(not_started, 0)
        assert not raised.value.started
        policy = _node_session._RetryPolicy(session, "echo")
        with pytest.raises(SshError, match="the connection was lost") as raised:
            await policy.wait_for_retry(b"mux_client_request_session", 0)
        assert raised.value.started

    virtual(main)
