"""asynciojobs' names: its jobs, sequences and schedulers behave as its programs expect."""

import asyncio
import inspect
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import Monitor
from trioflow.compat import asynciojobs
from trioflow.compat.asynciojobs import (
    AbstractJob,
    Job,
    PrintJob,
    PureScheduler,
    Scheduler,
    Sequence,
    Watch,
    set_debug,
)
from trioflow.testing import run_virtual
from ...bodies import at_once, hooked, running
from ...conftest import Virtual
from ...places import ROOT
from ...pythons import python
from . import bodies
from .bodies import fail, give

SUBMODULES = ["job", "printjob", "purescheduler", "scheduler", "sequence", "watch"]


class Note(AbstractJob):
    """A job that records its start and its shutdown."""

    def __init__(
        self,
        label: str,
        notes: list[str] | None = None,
        delay: float = 0.0,
        **options: Any,
    ) -> None:
        self.notes = [] if notes is None else notes
        self.delay = delay
        super().__init__(label=label, **options)

    async def co_run(self) -> str | None:
        self.notes.append(f"run {self.label}")
        await anyio.sleep(self.delay)
        return self.label

    async def co_shutdown(self) -> None:
        self.notes.append(f"shutdown {self.label}")


def notes_of(letters: str) -> list[Note]:
    notes: list[str] = []
    return [Note(letter, notes) for letter in letters]


def labels(jobs: Any) -> list[str | None]:
    return sorted(job.label for job in jobs)


# ---- names
def test_the_package_and_its_submodules_have_the_names_of_asynciojobs() -> None:
    for module in SUBMODULES:
        __import__(f"trioflow.compat.asynciojobs.{module}")
    assert sys.modules["trioflow.compat.asynciojobs.job"].AbstractJob is AbstractJob
    assert sys.modules["trioflow.compat.asynciojobs.scheduler"].Scheduler is Scheduler
    assert asynciojobs.__version__ == "0.21.3"
    for name in set(asynciojobs.__all__) - {"__version__"}:
        assert getattr(asynciojobs, name).__module__ in ("trioflow.compat.asynciojobs",)


def test_a_subclass_may_have_its_own_attributes_named_scheduler_or_run() -> None:
    class Own(AbstractJob):
        def __init__(self) -> None:
            self.scheduler = self._run = self._state = self._host = self._members = (
                "mine"
            )
            AbstractJob.__init__(self, forever=False)

        async def co_run(self) -> list[str]:
            return [self.scheduler, self._run, self._state, self._host, self._members]

    job = Own()
    assert run_virtual(Scheduler(job).co_run, backend="asyncio")
    assert job.result() == ["mine"] * 5


def test_stand_in_after_an_import_of_asynciojobs_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "asynciojobs.job", sys)
    with pytest.raises(RuntimeError, match="before anything imports it"):
        asynciojobs.stand_in()


def test_a_second_stand_in_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    for _ in range(2):
        asynciojobs.stand_in()
        assert sys.modules["asynciojobs"] is asynciojobs
        assert sys.modules["asynciojobs.job"].Job is asynciojobs.Job  # type: ignore[attr-defined]


def test_repr_id_is_the_number_in_the_last_listing(capsys: Any) -> None:
    a, b = notes_of("ab")
    scheduler = Scheduler(a, b)
    assert (a.repr_id(), b.repr_id()) == ("??", "??")
    scheduler.list()
    assert (a.repr_id(), b.repr_id()) == ("1", "2")
    scheduler.remove(a)
    scheduler.list()
    assert b.repr_id() == "1"
    assert capsys.readouterr().out


# ---- building
def test_requires_accepts_jobs_sequences_none_and_collections() -> None:
    a, b, c, d, e = notes_of("abcde")
    nested = Scheduler()
    assert e.requires(None, [a, (Sequence(b, c), {nested})], e, [None, [e]]) is e
    assert e.required == {a, c, nested}
    assert Note("f", required=[a, {b}]).required == {a, b}
    e.required &= {a}
    assert len(e.required) == 1
    assert a in e.required
    assert d.requires() is d


def test_requirements_can_be_removed() -> None:
    """`requires(..., remove=True)` removes an edge, even to the last job of a sequence; a missing one is a KeyError."""
    a, b, c = notes_of("abc")
    c.requires(a, b)
    c.requires(a, remove=True)
    c.requires(Sequence(a, b), remove=True)
    assert c.required == set()
    with pytest.raises(KeyError):
        c.requires(a, remove=True)


def test_an_object_that_is_not_a_job_is_rejected() -> None:
    """An object that is not a job cannot be required, added, or put into a sequence."""
    for wrong in [3, "name", PureScheduler(), lambda: None]:
        a = Note("a")
        for call in (a.requires, PureScheduler().add, PureScheduler, Sequence):
            with pytest.raises(TypeError, match="give jobs or Sequences"):
                call(wrong)


def test_errors_for_functions_coroutines_and_native_jobs_say_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"Job\(give\(\.\.\.\)\)"):
        Job(give)
    coroutine = give(1)
    with pytest.raises(
        TypeError, match=r"a coroutine becomes a job by Job\(give\(\.\.\.\)\)"
    ):
        PureScheduler(coroutine)
    coroutine.close()
    from trioflow import AbstractJob as Native

    with pytest.raises(TypeError, match="the two do not mix"):
        PureScheduler(Native())


def test_a_sequence_chains_its_jobs_and_stands_for_its_last_one() -> None:
    a, b, c, d, e = notes_of("abcde")
    scheduler = PureScheduler()
    inner = Sequence(b, c)
    sequence = Sequence(a, None, inner, required=e, scheduler=scheduler)
    assert sequence.jobs == [a, b, c]
    assert [a.required, b.required, c.required] == [{e}, {a}, {b}]
    assert scheduler.jobs == {a, b, c}
    sequence.append(d)
    assert sequence.jobs == [a, b, c, d]
    assert d.required == {c}
    assert d in scheduler
    assert Note("after", required=sequence).required == {d}
    assert Note("none", required=Sequence()).required == set()
    Sequence().requires(a)


def test_add_returns_the_argument_and_update_and_remove_the_scheduler() -> None:
    a, b, c = notes_of("abc")
    scheduler = PureScheduler(a, None)
    sequence = Sequence(b, c)
    assert scheduler.add(sequence) is sequence
    assert scheduler.update([a, None]) is scheduler
    assert scheduler.jobs == {a, b, c}
    assert scheduler.remove(b) is scheduler
    assert len(scheduler) == 2
    assert [*scheduler] == [a, c]
    with pytest.raises(KeyError):
        scheduler.remove(b)


def test_jobs_start_in_the_order_in_which_they_were_created() -> None:
    notes: list[str] = []
    jobs = [Note(f"{number}", notes) for number in range(20)]
    scheduler = PureScheduler(*reversed(jobs), jobs_window=1)
    assert run_virtual(scheduler.co_run, backend="asyncio")
    assert notes[:20] == [f"run {number}" for number in range(20)]


# ---- the graph
def chain() -> tuple[list[Note], PureScheduler]:
    jobs = notes_of("abcdx")
    Sequence(*jobs[:4])
    return jobs, PureScheduler(*jobs)


def test_predecessors_and_successors_are_direct_or_transitive() -> None:
    (a, b, c, d, x), scheduler = chain()
    assert scheduler.predecessors(c, b) == {a, b}
    assert isinstance(scheduler.successors(a), Iterator)
    assert [*scheduler.successors(a)] == [b]
    assert scheduler.predecessors_upstream(c) == {a, b}
    assert scheduler.successors_downstream(b) == {c, d}
    assert [*scheduler.topological_order()] == [a, x, b, c, d]
    assert [*scheduler.entry_jobs()] == [a, x]
    x.forever = True
    assert [*scheduler.exit_jobs()] == [d]
    assert [*scheduler.exit_jobs(discard_forever=False)] == [d, x]


def test_bypass_and_remove_passes_requirements_to_the_successors() -> None:
    (a, b, c, _, _), scheduler = chain()
    scheduler.bypass_and_remove(b)
    assert c.required == {a}
    assert labels(scheduler) == ["a", "c", "d", "x"]
    with pytest.raises(ValueError, match="there is nothing to remove"):
        scheduler.bypass_and_remove(b)


def test_keep_only_drops_the_edges_of_removed_jobs() -> None:
    """After `keep_only`, successors of a removed job have lost the requirement without a replacement."""
    (a, _, c, _, _), scheduler = chain()
    scheduler.keep_only([a, Sequence(c), None])
    assert scheduler.jobs == {a, c}
    assert c.required == set()


KEPT = [
    ("b", "c", {}, "bc"), ("bx", "c", {}, "bcx"), ("b", "d", {"keep_starts": False, "keep_ends": False}, "c"),
    ("bc", "d", {"keep_starts": False}, "cd"), ("a", "cd", {"keep_ends": False}, "abc"), ("c", None, {}, "cd"),
    (None, "c", {"keep_ends": False}, "ab"), (None, None, {}, "abcdx"), ("c", "b", {}, "bc"),
]  # fmt: skip


def test_keep_only_between_keeps_the_jobs_between_starts_and_ends() -> None:
    for starts, ends, options, kept in KEPT:
        jobs, scheduler = chain()
        by_label = {job.label: job for job in jobs}
        scheduler.keep_only_between(
            starts=None if starts is None else [by_label[one] for one in starts],
            ends=None if ends is None else [by_label[one] for one in ends],
            **options,
        )
        assert labels(scheduler) == [*kept]


def test_cycles_and_missing_requirements_raise_in_run_and_list() -> None:
    """With a cycle or a missing requirement, `check_cycles` returns False, and `run` and `list` raise an Exception."""
    notes: list[str] = []
    a, b = Note("a", notes), Note("b", notes)
    a.requires(b)
    b.requires(a)
    scheduler = PureScheduler(Scheduler(a, b, label="inner"))
    assert not scheduler.check_cycles()
    for call in (
        lambda: run_virtual(scheduler.co_run, backend="asyncio"),
        scheduler.list,
        scheduler.debrief,
    ):
        with pytest.raises(
            Exception, match=r"a requires b requires a|b requires a requires b"
        ) as caught:
            call()
        assert type(caught.value) is Exception
    assert notes == []
    stray = PureScheduler(Note("c", required=a))
    assert not stray.check_cycles()
    with pytest.raises(
        Exception, match=r"'a' is required and is not in .*sanitize\(\)"
    ):
        stray.list()


def test_sanitize_drops_edges_that_leave_a_scheduler(
    capsys: pytest.CaptureFixture[str],
) -> None:
    a, b, c = notes_of("abc")
    c.requires(a, b)
    scheduler = PureScheduler(Scheduler(b, c))
    assert not scheduler.sanitize(verbose=True)
    assert "1 requirement(s)" in capsys.readouterr().out
    assert c.required == {b}
    assert scheduler.sanitize()


def test_iterate_jobs_includes_nested_jobs() -> None:
    a, b, c = notes_of("abc")
    scheduler = PureScheduler(a, Scheduler(b, Scheduler(c)))
    assert labels(scheduler.iterate_jobs()) == ["a", "b", "c"]
    assert len([*scheduler.iterate_jobs(scan_schedulers=True)]) == 6


# ---- running
def test_a_run_returns_true_and_has_results_on_both_backends(virtual: Virtual) -> None:
    a = Job(give("value", 1.0), label="a")
    b = Job(fail(), label="b", critical=False, required=a)
    c = Note("c", required=b)
    scheduler = PureScheduler(a, b, c)
    assert [a.is_idle(), a.raised_exception()] == [True, False]
    with pytest.raises(ValueError, match="'a' has no result"):
        a.result()
    assert virtual(scheduler.co_run)
    assert [a.result(), b.result(), c.result()] == ["value", None, "c"]
    assert [a.raised_exception(), type(b.raised_exception())] == [None, KeyError]
    assert all(
        job.is_done() and job.is_running() and job.is_scheduled() and not job.is_idle()
        for job in scheduler
    )
    assert scheduler.why() == "FINE"
    assert scheduler.stats() == "3D + 0R + 0I = 3"


def test_run_and_orchestrate_start_an_event_loop(backend: Any) -> None:
    assert PureScheduler(Job(give(1))).run(backend=backend)
    assert Scheduler(Job(give(1))).orchestrate()
    assert PureScheduler().run()
    assert Job(give(7)).standalone_run() == 7
    with pytest.raises(TypeError, match="timeout"):
        PureScheduler().run(timeout=1)  # type: ignore[call-arg]


def test_a_run_has_one_scheduler_of_trioflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in a new event loop once had a second one around it, whose only job was the first: half of its cost."""
    made: list[Any] = []

    class Counted(trioflow.Scheduler):
        def __init__(self, *jobs: Any, **options: Any) -> None:
            super().__init__(*jobs, **options)
            made.append(self)

    monkeypatch.setattr(trioflow, "Scheduler", Counted)
    assert Scheduler(Job(give(1))).run()
    assert len(made) == 1


def test_a_second_concurrent_run_raises() -> None:
    scheduler = PureScheduler(Note("a", delay=1.0))

    async def main() -> None:
        async with running(scheduler, 0.5):
            with pytest.raises(RuntimeError, match="is running"):
                await scheduler.co_run()

    run_virtual(main, backend="asyncio")
    assert run_virtual(scheduler.co_run, backend="asyncio")


def test_a_pure_scheduler_returns_false_after_a_critical_exception_or_timeout() -> None:
    cut, never = Job(give(1, 9.0), label="cut"), Note("never")
    fatal = Job(fail(1.0), label="fatal")
    never.requires(fatal)
    scheduler = PureScheduler(cut, fatal, never)
    assert not run_virtual(scheduler.co_run, backend="asyncio")
    assert [scheduler.failed_critical(), scheduler.failed_time_out()] == [True, False]
    assert "fatal" in scheduler.why()
    assert [cut.is_done(), cut.is_running(), cut.raised_exception()] == [
        False,
        True,
        None,
    ]
    assert never.is_idle()
    late = PureScheduler(Job(give(1, 9.0)), timeout=2.0)
    assert not run_virtual(late.co_run, backend="asyncio")
    assert [late.failed_critical(), late.failed_time_out(), late.why()] == [
        False,
        2.0,
        "TIMED OUT after 2.0s",
    ]
    at_once = PureScheduler(Job(give(1, 9.0)), timeout=0)
    assert not run_virtual(at_once.co_run, backend="asyncio")
    assert at_once.failed_time_out() is not False


def test_a_critical_scheduler_raises_the_exception_of_its_job() -> None:
    for exception, options in ((KeyError, {}), (TimeoutError, {"timeout": 0.5})):
        body = fail(1.0)
        scheduler = Scheduler(Job(body), **options)
        with pytest.raises(exception):
            run_virtual(scheduler.co_run, backend="asyncio")
        lenient = Scheduler(Job(fail(1.0)), critical=False, **options)
        assert run_virtual(lenient.co_run, backend="asyncio") is False


def test_co_run_of_a_scheduler_can_be_the_coroutine_of_a_job() -> None:
    """A Job may have `co_run()` of a PureScheduler as its coroutine, because programs nest schedulers like this."""
    inner = PureScheduler(Job(give("inside", 1.0), label="inner"))
    outer = Job(inner.co_run())
    assert run_virtual(PureScheduler(outer).co_run, backend="asyncio")
    assert outer.result() is True
    assert [job.result() for job in inner] == ["inside"]


def test_an_overridden_co_run_is_used() -> None:
    calls: list[str] = []

    class Loud(Scheduler):
        async def co_run(self) -> bool:
            calls.append("before")
            result = await super().co_run()
            calls.append("after")
            return result

    assert Loud(Note("a", calls)).run()
    assert PureScheduler(Loud(Note("b", calls))).run()
    assert calls == [
        "before", "run a", "shutdown a", "after", "before", "run b", "shutdown b", "after",
    ]  # fmt: skip


def test_forever_jobs_may_be_required() -> None:
    notes: list[str] = []
    first = Note("first", notes, delay=1.0, forever=True)
    ordinary = Note("ordinary", notes, required=first)
    other = Note("other", notes, delay=0.5, forever=True)
    last = Note("last", notes, forever=True, required=other)
    never = Note("never", notes, delay=9.0, forever=True)
    after_never = Note("after never", notes, forever=True, required=never)
    assert run_virtual(
        PureScheduler(first, ordinary, other, last, never, after_never).co_run,
        backend="asyncio",
    )
    assert notes[:5] == [
        "run first",
        "run other",
        "run never",
        "run last",
        "run ordinary",
    ]
    assert not never.is_done()


def test_system_exit_of_a_job_ends_the_run_cleanly() -> None:
    notes: list[str] = []
    with pytest.raises(SystemExit, match="3"):
        PureScheduler(
            Job(at_once(lambda: sys.exit(3))), Note("other", notes, delay=9.0)
        ).run()
    assert notes == ["run other", "shutdown other"]


def test_ctrl_c_ends_the_run_cleanly(tmp_path: Path) -> None:
    """After Ctrl-C, the `finally` blocks and shutdowns of jobs complete, and then KeyboardInterrupt is raised."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import asyncio, os, signal
from trioflow.compat.asynciojobs import AbstractJob, Job, Scheduler

began = asyncio.Event()

async def interrupt():
    await began.wait()
    os.kill(os.getpid(), signal.SIGINT)

class Long(AbstractJob):
    async def co_run(self):
        began.set()
        try:
            await asyncio.sleep(300)
        finally:
            await asyncio.sleep(0.05)
            print("cleaned")
    async def co_shutdown(self):
        print("shut down")

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    Scheduler(Scheduler(Long()), Job(interrupt())).run()
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert python(program, text=True).stdout.splitlines() == [
        "cleaned",
        "shut down",
        "interrupted",
    ]


# ---- shutdown
def test_each_run_shuts_down_every_job_once() -> None:
    notes: list[str] = []
    fatal = Job(fail(1.0))
    inner = Scheduler(Note("in", notes))
    outer = Note("out", notes, delay=0.5)
    unreached = Scheduler(Note("deep", notes), required=fatal)
    scheduler = PureScheduler(inner, outer, fatal, unreached)
    assert not run_virtual(scheduler.co_run, backend="asyncio")
    assert sorted(notes[:3]) == ["run in", "run out", "shutdown in"]
    assert sorted(notes[3:]) == ["shutdown deep", "shutdown out"]
    scheduler.shutdown()
    assert len(notes) == 5


def test_shutdown_without_a_run_reaches_every_job_once() -> None:
    notes: list[str] = []
    scheduler = PureScheduler(Note("a", notes), Scheduler(Note("b", notes)))
    assert scheduler.shutdown() is True
    assert scheduler.shutdown() is None
    assert sorted(notes) == ["shutdown a", "shutdown b"]


def test_a_job_with_nothing_to_shut_down_is_not_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A `co_shutdown` that the class inherits is called only if it has something to do: a call costs a task."""
    called: list[Any] = []
    for kind in (AbstractJob, Job, PureScheduler):

        async def counted(self: Any, inherited: Any = kind.co_shutdown) -> Any:
            called.append(self)
            return await inherited(self)

        monkeypatch.setattr(kind, "co_shutdown", counted)
    own, given = Note("own"), Job(give(1), coshutdown=give(2))
    inner = Scheduler(Job(give(1)), PrintJob())
    never = Scheduler(Job(give(1)), Scheduler(given), required=Job(fail(1.0)))
    assert not run_virtual(
        PureScheduler(inner, own, never, *never.required).co_run, backend="asyncio"
    )
    assert own.notes[-1] == "shutdown own"
    assert [job for job in called if isinstance(job, Job)] == [given]
    assert inner not in called


def test_coroutines_that_are_never_awaited_are_closed_without_a_warning() -> None:
    made = [give(number) for number in range(7)]
    Job(made[0], coshutdown=made[1])
    Job(made[2], coshutdown=made[3]).close()
    scheduler = Scheduler(Job(made[4]), Scheduler(Job(made[5])), PrintJob())
    scheduler.close_idle_jobs()
    scheduler.close_all_jobs()
    Sequence(Job(made[6]), PrintJob()).close_idle_jobs()
    assert {inspect.getcoroutinestate(coroutine) for coroutine in made} == {
        inspect.CORO_CLOSED
    }


def test_a_program_that_runs_nothing_ends_without_a_warning() -> None:
    """It has only listed its jobs, as with --dry-run: "never awaited" was what it said last."""
    program = (
        f"from {asynciojobs.__name__} import Job, Scheduler\n"
        "async def nap(): pass\n"
        "scheduler = Scheduler(Job(nap()), Scheduler(Job(nap(), coshutdown=nap())))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT
    )
    assert (ended.stdout, ended.stderr) == (b"", b"")


# ---- text output
def shown() -> PureScheduler:
    class Detailed(Note):
        def details(self) -> str:
            return f"details of {self.label}"

    a = Job(give(1), label="a")
    b = Job(fail(), label="b", critical=False, required=a)
    nested = Scheduler(
        Detailed("c"), Job(fail(1.0), label="d"), label="nested", required=b
    )
    return PureScheduler(
        a, b, nested, Note("e", delay=9.0, forever=True, critical=False)
    )


def test_debrief_after_a_run_shows_the_reason_the_listing_and_exceptions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scheduler = shown()
    run_virtual(scheduler.co_run, backend="asyncio")
    capsys.readouterr()
    scheduler.debrief(details=True)
    out = capsys.readouterr().out
    assert out.startswith(
        "----- CRITICAL exception of <Scheduler `nested`>\n"
        "1 ⚠ ☉ ☓   <Job `a`> [[ -> 1]]\n"
        "2   ☉ ☓ ∞ <Note `e`> [cancelled]\n"
        "3   ★ ☓   <Job `b`> !! exception => KeyError:'lost'!! requires={1}\n"
        "4 ⚠ ★ ☓   <Scheduler `nested`> !! CRIT. EXC. => KeyError:'lost'!! requires={3} -> entries={5, 6}\n"
        "5 ⚠ ☉ ☓   > <Detailed `c`> [[ -> c]]\n"
        "details of c\n"
        "6 ⚠ ★ ☓   > <Job `d`> !! CRIT. EXC. => KeyError:'lost'!!\n"
        "4 --end-- < <Scheduler `nested`> exits={5, 6}\n"
        "PureScheduler  ✗ stopped by a critical failure of nested, 1 failed, 1 tolerated"
    )
    for failure in (
        "critical failure of nested",
        "tolerated failure of b",
        "critical failure of d",
    ):
        assert (
            f'{failure}:\nTraceback (most recent call last):\n  File "{bodies.__file__}", line '
            in out
        )
    scheduler.list(silence_done_jobs=True)
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["2", "4", "4"]
    scheduler.list_safe()
    safe = capsys.readouterr().out.splitlines()
    assert [line[0] for line in safe] == ["1", "2", "3", "4", "5", "3", "6"]


def test_a_job_that_waits_for_a_slot_is_shown_with_its_own_symbol() -> None:
    scheduler = PureScheduler(
        Job(give(1, 5.0), label="a"), Job(give(1, 5.0), label="b"), jobs_window=1
    )

    async def main() -> list[str]:
        async with running(scheduler, 1):
            return [job.repr_short() for job in scheduler]

    assert run_virtual(main, backend="asyncio") == ["⚠ ☉ ↺  ", "⚠   ⚑  "]


def test_list_on_an_ascii_stream_uses_ascii_symbols(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    PureScheduler(Note("straße", forever=True)).list()
    stream.seek(0)
    assert stream.read() == "1 !   - 8 <Note `stra\\xdfe`> [not done]\n"


def test_a_verbose_scheduler_prints_the_starts_and_ends_of_jobs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A verbose scheduler prints time, counts and job at each start and end; `set_debug` makes all verbose."""
    assert Scheduler(Note("a"), verbose=True, watch=Watch(show_elapsed=False)).run()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert re.match(r"\d{3}\.\d{3}  0D", lines[1])
    assert lines[1].endswith(
        "0D + 1R + 0I = 1 STARTING: 1 ⚠ ☉ ↺   <Note `a`> [not done]"
    )
    assert lines[2].endswith(
        "1D + 0R + 0I = 1 DONE    : 1 ⚠ ☉ ☓   <Note `a`> [[ -> a]]"
    )
    set_debug(True)
    try:
        assert PureScheduler(Note("a")).run()
    finally:
        set_debug(False)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_reprs_can_be_customised(capsys: pytest.CaptureFixture[str]) -> None:
    """Listings use the `text_label` and the `repr_result` of a subclass."""

    class Own(Note):
        def text_label(self) -> str:
            return "my text"

        def repr_result(self) -> str:
            return "my result"

    job = Own("x")
    job.label = None
    PureScheduler(job).list()
    assert capsys.readouterr().out == "1 ⚠   ⚐   <Own `my text`> my result\n"
    assert (
        repr(PureScheduler(job))
        == "PureScheduler with 0 done + 0 ongoing + 1 idle = 1 job(s)"
    )
    assert (
        repr(Scheduler(job)) == "Scheduler with 0 done + 0 ongoing + 1 idle = 1 job(s)"
    )


def test_a_watch_prints_messages_and_elapsed_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A Watch prints a message at creation, and later the elapsed time and the wall clock; it can be restarted."""
    watch = Watch("go", show_wall_clock=True)
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d{3}\.\d{3}  go", first)
    assert second.endswith(" go")
    watch.print_elapsed("|")
    watch.print_wall_clock("|")
    out = capsys.readouterr().out
    assert re.match(r"\d{3}\.\d{3} ", out)
    assert [len(part) for part in out.split("|")] == [8, 12, 0]
    before = watch.start
    watch.reset()
    assert watch.start > before
    assert 0 <= watch.seconds() < 60


def test_a_print_job_prints_its_messages_and_sleeps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = PrintJob("one", 2, sleep=1.0, banner="***")
    assert run_virtual(PureScheduler(job).co_run, backend="asyncio")
    assert capsys.readouterr().out == "*** one 2\nSleeping for 1.0s\n"
    assert job.details() == "[+ sleep 1.0s] msg= one..."
    assert PrintJob().details() == "msg= "


# ---- drawings
def test_styles_of_jobs_are_drawn(tmp_path: Path) -> None:
    """In drawings, labels are numbered, critical is red, forever dashed, nested a frame; subclasses can change more."""

    class Blue(Note):
        def dot_style(self) -> dict[str, str]:
            return {**super().dot_style(), "color": "blue"}

        def graph_label(self) -> str:
            return 'say "hello"\nand \\ more'

    nested = Scheduler(Note("in", forever=True, critical=False), label="nested")
    deeper = Scheduler(nested, label="deeper")
    empty = Scheduler(label="empty", required=deeper)
    scheduler = PureScheduler(deeper, empty, Blue("blue", required=empty))
    source = scheduler.dot_format()
    assert (
        '3 [style="rounded,dashed", label="3: in", shape="box", penwidth="0.5"];'
        in source
    )
    assert (
        'graph [style="", label="2: nested", shape="box", color="red", penwidth="2"];'
        in source
    )
    assert r'label="say \"hello\"\nand \\ more", shape="box", color="blue"' in source
    assert "3 -> 4 [lhead=cluster_4, ltail=cluster_1];" in source
    assert "4 -> 5 [ltail=cluster_4];" in source
    assert scheduler.graph().source == source
    scheduler.export_as_dotfile(tmp_path / "a.dot")
    assert (tmp_path / "a.dot").read_text() == source
    scheduler.export_as_graphic(tmp_path / "b", "svg")
    scheduler.export_as_pngfile(tmp_path / "c")
    scheduler.export_as_svgfile(str(tmp_path / "d"))
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.dot", "b.dot", "b.svg", "c.dot", "c.png", "d.dot", "d.svg",
    }  # fmt: skip


# ---- what trioflow adds
def test_trioflow_instruments_can_watch_a_run() -> None:
    finished: list[str] = []
    watch = hooked(job_settled=lambda _, job: finished.append(job.label))
    monitor = Monitor(file=io.StringIO())
    assert PureScheduler(Note("a"), Note("b")).run(instruments=[watch, monitor])
    assert finished == ["a", "b"]


# --- asynciojobs' names: how jobs are cancelled, and faults of the original that trioflow does not have
class Stubborn:
    """A body that records each cancellation, and swallows the given number of them."""

    def __init__(self, times: int, sleep: float = 1.0) -> None:
        self.times, self.sleep = times, sleep
        self.cancelled_at: list[float] = []

    async def body(self) -> str:
        while True:
            try:
                await asyncio.sleep(self.sleep)
                return "slept"
            except asyncio.CancelledError:
                self.cancelled_at.append(anyio.current_time())
                if len(self.cancelled_at) > self.times:
                    raise


def timed(scheduler: PureScheduler) -> tuple[bool, float]:
    """Run under virtual time, and return the result and the duration."""

    async def main() -> tuple[bool, float]:
        return await scheduler.co_run(), anyio.current_time()

    return run_virtual(main, backend="asyncio")


# ---- cancellation as asyncio programs know it
@pytest.mark.parametrize("shutdown_timeout", [2, None])
def test_a_job_is_cancelled_once(shutdown_timeout: float | None) -> None:
    stubborn = Stubborn(times=9, sleep=4.0)
    job = Job(stubborn.body())
    assert timed(PureScheduler(job, timeout=1, shutdown_timeout=shutdown_timeout)) == (
        False,
        5.0,
    )
    assert stubborn.cancelled_at == [1.0]
    assert job.result() == "slept"


def test_a_forever_job_that_goes_on_after_shutdown_timeout_is_cancelled_at_each_await() -> (
    None
):
    stubborn = Stubborn(times=3, sleep=60)
    job = Job(stubborn.body(), label="stubborn", forever=True)
    assert timed(PureScheduler(job, Job(give(None, 1)), shutdown_timeout=2)) == (
        True,
        3.0,
    )
    assert stubborn.cancelled_at == [1.0, 3.0, 3.0, 3.0]
    assert not job.is_done()


# ---- faults of asynciojobs that are not here
def test_forever_jobs_alone_run_until_all_of_them_have_ended() -> None:
    short, long = Job(give(None, 1), forever=True), Job(give(None, 3), forever=True)
    assert timed(PureScheduler(short, long)) == (True, 3.0)
    assert short.is_done()
    assert long.is_done()


def test_forever_jobs_take_no_slot() -> None:
    """Forever jobs take no slot; in asynciojobs, those that fill the window leave no room for others."""
    forever = [Job(give(None, 60), forever=True) for _ in range(3)]
    assert timed(PureScheduler(*forever, Job(give(None, 1)), jobs_window=1)) == (
        True,
        1.0,
    )


def test_a_second_run_runs_jobs_and_shuts_them_down_again() -> None:
    scheduler = Scheduler(Scheduler(again := Note("again")))
    for _ in range(2):
        assert timed(scheduler)[0]
    assert again.notes == ["run again", "shutdown again"] * 2


def test_a_second_run_with_used_coroutines_is_rejected_before_it_starts() -> None:
    again, spent = Note("again"), Job(give(None), label="spent")
    scheduler = PureScheduler(again, spent)
    assert timed(scheduler)[0]
    with pytest.raises(ValueError, match=r"awaited already: spent; .* a new corun"):
        timed(scheduler)
    spent.corun = give(None)
    assert timed(scheduler)[0]
    assert again.notes == ["run again", "shutdown again"] * 2


def test_jobs_that_cannot_be_run_fail_with_an_explanation() -> None:
    nothing = AbstractJob(critical=False)
    shared: Any = give(None)
    twice = [Job(shared, critical=False), Job(shared, critical=False)]
    Sequence(*twice)
    assert timed(PureScheduler(nothing, *twice)) == (True, 0.0)
    assert "must define async def co_run" in str(nothing.raised_exception())
    assert "awaited" in str(twice[1].raised_exception())


@pytest.mark.parametrize(
    ("count", "numbers"), [(9, "1 9"), (10, "01 10"), (11, "01 11")]
)
def test_numbers_in_a_listing_have_as_many_digits_as_the_last(
    capsys: pytest.CaptureFixture[str], count: int, numbers: str
) -> None:
    PureScheduler(*(Note(f"n{number}") for number in range(count))).list()
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0].split()[0], lines[-1].split()[0]] == numbers.split()
