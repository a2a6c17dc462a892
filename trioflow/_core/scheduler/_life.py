"""The stage of a scheduler in its life, and `WORDS`: the answer to each public word at each stage.

```
         run() is called               the run is there            its outcome is stored
   NEW ─────────────────► BEGINNING ──────────────────► RUNNING ─────────────────────────► ENDED
    ▲   ENDED ───────────────▲ └────────── the run is refused, or fails as it begins ────────▲│
    └── a run around it resets it ────────────────────────────────────────────────────────────┘
```

A nested scheduler goes from NEW or ENDED to RUNNING, once for each attempt. Closing is no step: where a row has
SAME at CLOSED, the word is answered as before.

`stage_of` looks from the scheduler outwards, and the first scheduler that begins or runs decides. So a scheduler that
neither begins nor runs is WAITING or SETTLED while one around it runs.

Only the thread that calls `run` or `co_run` changes a stage. Any thread may ask. Three rules make that safe: a call of
`run()` claims its scheduler in one step that no other thread can interrupt, the run is there before the stage is
RUNNING, and the stage is RUNNING before the run takes the calls that were kept.

The words:

- "run": `run`, `co_run`, `async with`. A nested scheduler that its worker runs is asked for its own stage alone.
- "add": `add`, `update`, `map`. In a run, only while it begins its jobs, and in its phase RUNNING.
- "requires": `requires` of a member, which may get requirements until it is about to run.
- "change": `remove`, `sanitize`, `close`, and each option that may not be set during a run.
- "cancel": of an outermost scheduler. "of a job": the stage is its scheduler's.
- "as_settled": IGNORE yields the jobs that have settled, and ends.
- "wait_settled": of an outermost scheduler, which has settled when its run has ended.
- Everything that only reads acts at each stage: `iterate_jobs`, `explain`, `results`, `is_paused`, ...

At the stage RUNNING, the phase of the run says more. A group that has not begun, or waits for its next attempt, is in
no phase, and takes "pause" and "jobs_window=" all the same. One that has settled takes "resume", for it may be tried
again, and would begin with its pause. The tests of these rows are in tests/laws/test_steering.py.

| word | CHECKING | LINKING, ENTERING | RUNNING | DRAINING | STOPPING |
|---|---|---|---|---|---|
| "add", "requires" | refused | refused while LINKING | links, makes ready | refused | refused |
| "pause", "resume" | holds from the first job on | the same | at once | for the next attempt | the same |
| "jobs_window=" | is the first size | at once | at once | changes the setting | the same |
| "drain" | stops, DRAINED | stops, DRAINED | drains | nothing | nothing |
| "cancel" | stops | stops | stops | stops, still DRAINED | cancels again, unless it was cancelled |
| "cancel of a job" | when all are linked | the same; ENTERING: at once | at once | at once | at once |
| the deadline passes | at the first turn | stops | stops | stops, still DRAINED | nothing |

BODY is the stage of all schedulers in the scheduler with the body. A word that is kept for a group or a job is said as
soon as the run of the outermost scheduler is there.

Decided in docs/decisions: 06-nested-runs, 09-ctrl-c.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from ..base._states import CHECKING, SUCCEEDED
from ..base._text_forms import clause
from ..job._ancestors import (
    ancestors_with_members,
    enclosing_schedulers,
    outermost_scheduler,
)
from ..job._errors import JobNotDone, growing_error
from ..run import _ending
from ._sync_run import SignalHandler

if TYPE_CHECKING:
    from ..job._job import AnyJob
    from ..run._run import Run
    from ._base_scheduler import BaseScheduler


class Stage(enum.IntEnum):
    """A stage in the life of a scheduler, and the column of `WORDS`. An IntEnum, because its hash costs no call.

    - NEW: no run has begun.
    - BEGINNING: `run()` or `co_run()` was called, of it or of a scheduler around it, and the run is not there yet.
    - RUNNING: its run is in progress.
    - WAITING: nested, in a run in progress. It has not begun, or waits for another attempt, or a group around it does.
    - SETTLED: nested, in a run in progress, in which it has settled, or a group around it has.
    - ENDED: its last run, or the run of one around it, has ended or was refused, and none is in progress.
    - BODY: as ENDED, and the body of the `async with` of the outermost scheduler has not ended.
    - CLOSED: it was closed.

    """

    NEW = 0
    BEGINNING = 1
    RUNNING = 2
    WAITING = 3
    SETTLED = 4
    ENDED = 5
    BODY = 6
    CLOSED = 7


# As global names, because an attribute of an enum class takes ten times as long, and each `add` looks.
NEW: Final = Stage.NEW
BEGINNING: Final = Stage.BEGINNING
RUNNING: Final = Stage.RUNNING
ENDED: Final = Stage.ENDED
CLOSED: Final = Stage.CLOSED


class Answer(enum.Enum):
    """The answer to a word.

    - ACT: do it. A word of steering from another thread than the run's is done in the next turn of the loop.
    - KEEP: keep the word for the run that begins, which then says it. If that run is refused, the word is dropped.
    - REFUSE: raise an error.
    - IGNORE: do nothing. What the word asks for has come, or the run has ended, which another thread cannot know.

    """

    ACT = "act"
    KEEP = "keep"
    REFUSE = "refuse"
    IGNORE = "ignore"


# The answer in the thread of the run, and the answer in other threads.
Cell = tuple[Answer, Answer]
ACTS: Final = (Answer.ACT, Answer.ACT)
KEEPS: Final = (Answer.KEEP, Answer.KEEP)
REFUSES: Final = (Answer.REFUSE, Answer.REFUSE)
IGNORES: Final = (Answer.IGNORE, Answer.IGNORE)
HERE: Final = (Answer.ACT, Answer.REFUSE)
LATE: Final = (Answer.REFUSE, Answer.IGNORE)
# As if it had not been closed.
SAME: Final = None
# No such scheduler is asked: an outermost one is never WAITING.
NEVER: Final = None


class Word(NamedTuple):
    """A row of `WORDS`: the answer at each stage, and the text of a refusal, `at` some stages another.

    The text is about the `{call}`, for the scheduler `{name}`, because of `{level}`, which may be the scheduler itself.
    """

    cells: tuple[Cell | None, ...]
    refusal: str = "{call}: its scheduler is not running"
    at: Mapping[Stage, str] = {}
    error: Callable[[str], RuntimeError] = RuntimeError


IS_CLOSED: Final = "{name} is closed; make a new Scheduler"
IN_RUN: Final = "{name} is in {level}, which is running, and will run it"
NOT_IN_RUN: Final = "{call}: not allowed while {level} is running"
NOT_AS_IT_BEGINS: Final = {
    Stage.BEGINNING: "{call}: not allowed while a run of {level} begins"
}
STEERED: Final = "{call}: it is not running"
# fmt: off
WORDS: Final[dict[str, Word]] = {
    # word                     NEW      BEGINNING RUNNING  WAITING  SETTLED  ENDED    BODY     CLOSED
    "run": Word(              (ACTS,    HERE,    REFUSES, REFUSES, REFUSES, ACTS,    REFUSES, REFUSES),
        "{name} is already running; wait for that run to end, or build one for each run, as for each request",
        {Stage.BEGINNING: "another call runs {level}; wait for that run to end, or build one for each call",
         Stage.WAITING: IN_RUN, Stage.SETTLED: IN_RUN, Stage.CLOSED: IS_CLOSED,
         Stage.BODY: "the block of {outermost} has not ended, and ends with its run; run {name} after it"}),
    "add": Word(              (ACTS,    HERE,    HERE,    HERE,    REFUSES, ACTS,    REFUSES, REFUSES),
        "{call}: {name} has settled in the run of {level}{why}",
        {Stage.BEGINNING: "{call}: a run of {level} begins in another thread; add jobs before it, or in its thread",
         Stage.BODY: "{call}: the run of {outermost} has ended{why}, and accepts no jobs",
         Stage.CLOSED: "{call}: " + IS_CLOSED},
        growing_error),
    "requires": Word(         (ACTS,    HERE,    HERE,    HERE,    HERE,    ACTS,    ACTS,    SAME),
        NOT_IN_RUN, NOT_AS_IT_BEGINS),
    "change": Word(           (ACTS,    REFUSES, REFUSES, REFUSES, REFUSES, ACTS,    ACTS,    SAME),
        NOT_IN_RUN, NOT_AS_IT_BEGINS),
    "jobs_window=": Word(     (ACTS,    REFUSES, HERE,    HERE,    REFUSES, ACTS,    ACTS,    SAME),
        NOT_IN_RUN, NOT_AS_IT_BEGINS),
    "cancel": Word(           (KEEPS,   KEEPS,   ACTS,    NEVER,   NEVER,   LATE,    LATE,    SAME)),
    "cancel, nested": Word(   (REFUSES, KEEPS,   ACTS,    ACTS,    IGNORES, LATE,    LATE,    SAME)),
    "cancel of a job": Word(  (REFUSES, KEEPS,   ACTS,    ACTS,    LATE,    LATE,    LATE,    SAME)),
    "drain": Word(            (REFUSES, KEEPS,   ACTS,    ACTS,    LATE,    LATE,    LATE,    SAME), STEERED),
    "pause": Word(            (REFUSES, KEEPS,   ACTS,    ACTS,    LATE,    LATE,    LATE,    SAME), STEERED),
    "resume": Word(           (REFUSES, KEEPS,   ACTS,    ACTS,    ACTS,    LATE,    LATE,    SAME), STEERED),
    "try_again": Word(        (REFUSES, REFUSES, ACTS,    NEVER,   NEVER,   LATE,    LATE,    SAME)),
    "try_again of a job": Word((REFUSES, REFUSES, ACTS,   REFUSES, NEVER,   LATE,    LATE,    SAME),
        at={Stage.WAITING: "{call}: {name} has not begun in the run of {level}, or waits for another attempt"}),
    "as_settled": Word(       (ACTS,    ACTS,    HERE,    HERE,    IGNORES, IGNORES, IGNORES, IGNORES)),
    "wait_settled": Word(     (REFUSES, REFUSES, HERE,    NEVER,   NEVER,   IGNORES, IGNORES, SAME),
        "{name} is idle: it has no run to wait for",
        {Stage.BEGINNING: "a run of {level} begins; wait when it is there"}, JobNotDone),
    "wait_settled of a job": Word(
                              (ACTS,    ACTS,    HERE,    HERE,    REFUSES, REFUSES, REFUSES, REFUSES)),
}
# fmt: on
# The thread of a call of `run()`, by its number. `run()` and its own `co_run()` share one.
Claim = list[int]
# The schedulers that a call is about to run.
CLAIMS: Final[dict[BaseScheduler, Claim]] = {}


def expect_run(scheduler: BaseScheduler) -> Claim:
    """Let each call of steering from now on mean the run that begins, or is refused.

    `run()` calls this, and so does its `co_run()`, which gets the same claim.

    Raises:
        RuntimeError: another call is running the scheduler, or one around it, or the scheduler is closed.

    """
    own = [threading.get_ident()]
    claim = CLAIMS.setdefault(scheduler, own)
    if claim is own:
        stage, level = stage_of(scheduler)
        if scheduler._is_closed or WORDS["run"].cells[stage] is not ACTS:
            del CLAIMS[scheduler]
            raise refusal("run", scheduler, stage, level, "run()")
        scheduler._run_thread = None
        scheduler._stage = BEGINNING
    elif claim != own:
        raise refusal("run", scheduler, BEGINNING, scheduler, "run()")
    return claim


def drop_claim(scheduler: BaseScheduler, claim: Claim | None) -> None:
    """Record that a run was refused, if its call still has its claim: it has it until the run begins.

    A nested scheduler has no claim.
    """
    if CLAIMS.get(scheduler) is claim and scheduler._stage is not ENDED:
        record_end(scheduler)


def start_run(scheduler: BaseScheduler, run: Run) -> None:
    """Let a run be the run in progress, and make the calls that were kept for it, in their order."""
    scheduler._run = run
    scheduler._run_thread = None
    scheduler._stage = RUNNING
    CLAIMS.pop(scheduler, None)
    calls = scheduler._early_calls
    while calls:
        calls.pop(0)()


def record_end(scheduler: BaseScheduler) -> None:
    """Record that a run has ended, or was refused, and wake all that still wait for its jobs.

    From now on, steering from another thread comes too late.
    """
    scheduler._run_thread = threading.current_thread()
    scheduler._stage = ENDED
    CLAIMS.pop(scheduler, None)
    scheduler._early_calls.clear()
    # Last, because another thread may then begin the next run.
    scheduler._run = None
    if scheduler._was_awaited:
        scheduler._notify_unreached()
        if scheduler._worker is None and scheduler._extras is not None:
            scheduler._extras.notify_listeners(scheduler)
    for iterator in tuple(scheduler._settled_iterators or ()):
        iterator.end_iteration()
    scheduler._settled_iterators = scheduler._room = None


def forget_end(scheduler: BaseScheduler) -> None:
    """Let a nested scheduler be NEW, because a run around it begins."""
    scheduler._run_thread = None
    scheduler._stage = NEW


def stage_of(scheduler: BaseScheduler) -> tuple[Stage, BaseScheduler]:
    """Return the stage of a scheduler, but not whether it is closed, and the scheduler that decides it."""
    level = scheduler
    below = scheduler
    ended = None
    while True:
        stage = level._stage
        if stage is BEGINNING or (stage is RUNNING and level is scheduler):
            return stage, level
        if stage is RUNNING:
            # The run resets the states while it is CHECKING.
            run = level._run
            is_reset = run is None or run.phase is not CHECKING
            if is_reset and below._state.is_settled:
                return Stage.SETTLED, level
            return Stage.WAITING, level
        if stage is ENDED:
            ended = ended or level
        if level._scheduler is None:
            break
        below = level
        level = level._scheduler
    if ended is None:
        return NEW, scheduler
    if level._open_block is None:
        return ENDED, ended
    return Stage.BODY, ended


def will_reset(scheduler: BaseScheduler, job: AnyJob) -> bool:
    """Return whether an attempt begins, or is to come, that resets the state of a settled member.

    A group that waits for another attempt may keep what has succeeded.
    """
    stage, level = stage_of(scheduler)
    run = level._run
    if run is None:
        return False
    if run.phase is CHECKING:
        return True
    return stage is Stage.WAITING and job._state is not SUCCEEDED


def _cell(word: str, scheduler: BaseScheduler, stage: Stage) -> Cell:
    cells = WORDS[word].cells
    return (cells[CLOSED] if scheduler._is_closed else SAME) or cells[stage] or REFUSES


def acts(word: str, stage: Stage) -> bool:
    """Return whether a word acts at a stage, in any thread."""
    return WORDS[word].cells[stage] is ACTS


def _is_elsewhere(stage: Stage, level: BaseScheduler) -> bool:
    """Return whether the run that decides is in another thread, or has ended there, so that the caller knows less."""
    if (run := level._run) is not None:
        return threading.get_ident() != run.thread_id
    if stage is BEGINNING:
        return CLAIMS.get(level) != [threading.get_ident()]
    return level._run_thread not in (None, threading.current_thread())


def refusal(
    word: str,
    scheduler: BaseScheduler,
    stage: Stage,
    level: BaseScheduler,
    call_text: str,
) -> RuntimeError:
    """Return the error of a word that is refused."""
    row = WORDS[word]
    outermost = outermost_scheduler(scheduler)
    if scheduler._is_closed and row.cells[CLOSED] is not SAME:
        stage = CLOSED
    text = row.at.get(stage, row.refusal)
    why = clause(" ({.value})", outermost.stop_reason)
    run = level._run
    if run is not None and run.phase._is_ending:
        why = f", which {run.phase.value}"
    message = text.format(
        call=call_text,
        name=repr(scheduler.label),
        level=repr(level.label),
        outermost=repr(outermost.label),
        why=why,
    )
    return row.error(message)


def ask(
    scheduler: BaseScheduler,
    word: str,
    call_text: str,
    call: Callable[[], None] | None = None,
) -> Run | None:
    """Return the run that is to act on a word, or None if there is none, or nothing is to be done now.

    Any thread may ask. The thread of the run first ends the wait for it, and then takes the calls. So a call that was
    added too late is still there, unless the run has taken it.

    Args:
        scheduler: the scheduler that the word is said of.
        word: a row of `WORDS`.
        call_text: the call, for the error.
        call: says the word again. It is kept if the answer is KEEP, or for the loop if a signal handler asks.

    Raises:
        RuntimeError: the word is refused.

    """
    handler = SignalHandler.calling
    if handler is not None and handler.is_for(scheduler):
        if call is not None:
            handler.keep(call)
            return None
        if word in ("add", "requires"):
            # Python calls the function between any two instructions, perhaps in the middle of a step of the run.
            raise RuntimeError(
                f"{call_text}: a function for signals is calling; let it return a function that does so"
            )
    while True:
        stage, level = stage_of(scheduler)
        cell = _cell(word, scheduler, stage)
        if cell is ACTS:
            return level._run
        answer = cell[_is_elsewhere(stage, level)]
        if answer is Answer.ACT:
            # The run may have ended in another thread since.
            return level._run
        if answer is Answer.REFUSE:
            run = level._run
            if run is not None and cell is HERE:
                run.steering.check_thread(run, call_text)
            raise refusal(word, scheduler, stage, level, call_text)
        if answer is Answer.IGNORE:
            return None
        calls = level._early_calls
        assert call is not None
        calls.append(call)
        if stage_of(scheduler) == (stage, level):
            return None
        try:
            calls.remove(call)
        except ValueError:
            # The run has taken it.
            return None


def will_not_reach(scheduler: BaseScheduler, job: AnyJob | None = None) -> bool:
    """Return whether the run has ended or was refused, or will not start `job`, as it drains or stops.

    Also record that a job or an iterator of `as_settled()` is waiting. See `_was_awaited`.
    """
    stage, decisive = stage_of(scheduler)
    for level in (scheduler, *enclosing_schedulers(scheduler)):
        level._was_awaited = True
    if job is None:
        return _cell("as_settled", scheduler, stage) is IGNORES
    run = decisive._run
    if run is not None and run.phase._is_ending:
        member = next(
            member for level, member in ancestors_with_members(job) if level is decisive
        )
        return _ending.will_not_start(run, job, member)
    return _cell("wait_settled of a job", scheduler, stage) is REFUSES
