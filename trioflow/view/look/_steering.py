"""Steer a run from any thread: what `ACTIONS` has a word for, of the run, or of a job in it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from ..._core.base._states import RunPhase
from ..._core.base._text_forms import clause, join_names, plural, short_repr
from ..._core.job._errors import one_line_error
from ..._core.job._job import AnyJob, is_job, is_scheduler
from ..._core.job._labels import paths_of, printable, unescape_path
from ..._core.words import _job_queries, _run_view
from ..text._selection import readable_path, suggest_paths
from ._process_record import MAX_JOBS
from ._reload import MAX_NAMED, NothingChanged, changed_text, older_code_text, reload

STEER_TIMEOUT: Final = 2.0
"""How long, in seconds, to wait for the event loop, which a job may block."""
DONE_WORDS: Final = {
    "pause": "paused",
    "resume": "resumed",
    "window": "jobs_window set to {}",
    "drain": "drained",
    "cancel": "cancelled",
    "try-again": "tried again",
    "try-again --cancel": "tried again",
}
WINDOW_ADVICE: Final = "give a whole number from 1 up"


@runtime_checkable
class CommandScheduler(Protocol):
    """A scheduler whose jobs are commands. It may have dropped a failed command, and knows what to run again."""

    def try_commands_again(self, wanted: Sequence[object]) -> list[str]: ...


def steer(
    run: _run_view.RunInProgress,
    action: str,
    value: object,
    by: str,
    target: str | None = None,
    job: AnyJob | None = None,
    seen: Sequence[str] | None = None,
) -> str:
    """Steer an outermost run in the next turn of its loop, and return what was done, as words.

    Each change of the run is an incident of it, and so in the log.

    Args:
        run: the run. The call comes from another thread.
        action: one of `ACTIONS`, or "reload and try-again": if the mended code is refused, nothing is tried again. With
            "try-again --cancel", what runs with a result that is taken back is cancelled, and does not refuse the word.
        value: the number of slots for "window". For "cancel" and "try-again", the path of a job, or None for the run.
            For "try-again" also a list of paths, or of jobs. For "answer", the text of `job`, or a path, the text, and
            the number of the question, or None.
        by: who asks, for the log.
        target: the path of the nested scheduler that gets the window. None or the run's own label is the run.
        job: the job to cancel or to answer, or the nested scheduler that gets the window, in place of a path.
        seen: the `attempt_mark` of this job, or of each job to try again, as shown. To resume: "paused" or "held".
            This is compared in the turn of the loop in which the word acts. None if nothing was shown: then the word
            means the attempt, or the pause, that is there as it is said.

    Raises:
        ValueError: it cannot be done. The message says why.

    """
    answer = Future[str]()
    is_late = threading.Event()
    if seen is None:
        seen = _seen_now(run, action, value)

    def act() -> None:
        done = list[str]()
        left = action.split(" and ")
        try:
            while left:
                word = left.pop(0)
                request = SteeringRequest(run, word, value, by, target, job, seen)
                try:
                    done.append(_act(request))
                except NothingChanged as error:
                    if not left:
                        raise
                    done.append(str(error))
            if action.startswith("reload"):
                older = older_code_text(run.scheduler)
                if older:
                    run.report(None, older, is_steering=True)
                    done.append(older)
            answer.set_result("; ".join(done))
        except (TypeError, ValueError, RuntimeError) as error:
            undone = [f"nothing was {DONE_WORDS.get(word, word)}" for word in left]
            answer.set_exception(ValueError("; ".join([*done, str(error), *undone])))
            if is_late.is_set():
                # Who asked does not wait any more.
                message = f"{action} by {by} has no effect: {error}"
                run.report(job, message, is_steering=True)
        except (Exception, SystemExit) as error:
            # From code of the program that the word has called.
            run.report(job, f"{action} by {by} has failed", error)
            problem = f"{action} has failed, and the log of the program says where: {one_line_error(error)}"
            answer.set_exception(ValueError(problem))

    try:
        run.call_in_loop(act)
    except RuntimeError:
        # The loop has ended.
        raise ValueError("the run has ended") from None
    try:
        return answer.result(STEER_TIMEOUT)
    except TimeoutError:
        if run.has_ended():
            raise ValueError("the run has ended") from None
        is_late.set()
        return f"{action}: takes effect as soon as no job blocks the event loop"


class SteeringRequest(NamedTuple):
    """What a looking process asks of a run. The arguments of `steer` explain the fields."""

    run: _run_view.RunInProgress
    action: str
    value: Any
    by: str
    target: str | None
    job: AnyJob | None
    seen: Sequence[str]

    @property
    def scheduler(self) -> Any:
        return self.run.scheduler

    def check_seen(self, jobs: Sequence[AnyJob]) -> None:
        """Check that each job is in the attempt that the person who asks means.

        Raises:
            ValueError: one has begun anew since, or it is not known what was shown.

        """
        for job, mark in itertools.zip_longest(jobs, self.seen):
            if job is None or _job_queries.attempt_mark(job) != mark:
                subject = "a job"
                if job is not None:
                    subject = f"'{readable_path(job.path)}'"
                raise ValueError(
                    f"{subject} has begun anew meanwhile, so nothing was done; look again"
                )


class Done(NamedTuple):
    """What was done to `subject`, as an unescaped path or label. The log says `detail`, and the answer also `note`."""

    subject: str
    detail: str = ""
    note: str = ""
    job: AnyJob | None = None


def _act(request: SteeringRequest) -> str:
    """Do what is asked, in the thread of the run, and say what was done."""
    run = request.run
    subject = printable(request.scheduler.label)
    act = ACTIONS.get(request.action)
    if act is None:
        raise ValueError(f"{request.action!r} is none of {', '.join(ACTIONS)}")
    if run.has_ended():
        raise ValueError("the run has ended")
    phase = run.view.phase
    is_ending = phase in (RunPhase.DRAINING, RunPhase.STOPPING)
    if is_ending and request.action not in ("cancel", "answer"):
        raise ValueError(f"'{subject}' {phase.value} already")
    done = act(request)
    if isinstance(done, str):
        # It logs by itself, or has done nothing.
        return done
    words = DONE_WORDS[request.action].format(done.detail)
    text = f"'{printable(done.subject)}': {words}"
    run.report(done.job, f"{text} by {request.by}", is_steering=True)
    return text + done.note


def _pause(request: SteeringRequest) -> Done | str:
    # A hold would end with the next job to start.
    if request.scheduler.is_paused() and not _is_held(request.run):
        return f"'{printable(request.scheduler.label)}': was paused already"
    request.run.set_pause(True, request.by)
    return Done(request.scheduler.label)


def _resume(request: SteeringRequest) -> Done | str:
    """Resume the run, and all groups in it that are paused."""
    scheduler = request.scheduler
    subject = printable(scheduler.label)
    paths = paths_of(scheduler)
    groups: list[Any] = list(filter(is_scheduler, paths))
    if not any(each.is_paused() for each in (scheduler, *groups)):
        return f"'{subject}': is not paused"
    now = _seen_now(request.run, request.action, None)
    if request.seen != now:
        raise ValueError(
            f"'{subject}' is {now[0]} by now, and was not before; look again"
        )
    request.run.set_pause(False, request.by)
    resumed = list[str]()
    for group in groups:
        if group.is_paused():
            group.resume()
            resumed.append(unescape_path(paths[group]))
    names = join_names(resumed, MAX_NAMED)
    return Done(scheduler.label, note=clause("; and in it {}", names))


def _resize(request: SteeringRequest) -> Done:
    scheduler = request.scheduler
    size = request.value
    if type(size) is not int or size < 1:
        raise ValueError(
            f"the window of '{printable(request.target or scheduler.label)}': {WINDOW_ADVICE}"
        )
    job: Any = None
    resized = scheduler
    subject = scheduler.label
    if request.job is not None or request.target not in (None, scheduler.label):
        job = request.job or _find(scheduler, request.target)
        resized = job
        subject = unescape_path(job.path)
        if not is_scheduler(job):
            raise ValueError(f"'{printable(subject)}' is one job, without a window")
    resized.jobs_window = size
    return Done(subject, str(size), _groups_text(resized), job)


def _try_again(request: SteeringRequest) -> Done:
    value = request.value
    wanted: list[Any] = [value]
    if isinstance(value, list):
        wanted = [*value]  # pyright: ignore[reportUnknownArgumentType]
    commands: Any = request.scheduler
    if isinstance(commands, CommandScheduler) and value is not None:
        # Commands, some of whose jobs may have been dropped.
        if isinstance(value, str):
            wanted.append(unescape_path(value))
        names = commands.try_commands_again(wanted)
        return Done(join_names(names, MAX_NAMED), job=request.job)
    scheduler = request.scheduler
    jobs: list[AnyJob] = [scheduler]
    if value is not None:
        jobs = []
        for each in wanted:
            job = each
            if not is_job(each):
                job = _find(scheduler, each, has_settled=True)
            jobs.append(job)
        request.check_seen(jobs)
    settled = [each for each in scheduler.iterate_jobs() if each.is_settled()]
    cancels = request.action.endswith(" --cancel")
    if len(jobs) > 1:
        for problem in map(_run_view.why_not_again, jobs):
            if problem:
                raise ValueError(problem)
    used_it: dict[AnyJob, None] = {}
    is_in_the_way = False
    for found in map(_run_view.next_try, jobs):
        if found is not None:
            used_it |= dict.fromkeys(found.used_it)
            is_in_the_way |= bool(found.running)
    try:
        tried = _run_view.try_again(jobs, cancels)
    except RuntimeError as error:
        advice = clause("; try-again --cancel does both", is_in_the_way and not cancels)
        raise ValueError(f"{error}{advice}") from None
    paths = paths_of(scheduler)
    again = list(filter(_job_queries.is_about_to_run_anew, paths))
    again += [each for each in settled if not each.is_settled()]
    if scheduler.keep_jobs and not again:
        raise ValueError(
            f"'{printable(scheduler.label)}': nothing has failed that can be tried again"
        )
    names = [unescape_path(paths[each]) for each in again]
    # The jobs that were asked for, and not the groups around them that end anew.
    named = tried if value is None else jobs
    subjects = [unescape_path(paths.get(each) or scheduler.label) for each in named]
    note = ""
    if used_it:
        note = f", and {plural(len(used_it), 'job')} that used it"
    note += clause("; these wait or run again: {}", join_names(names, MAX_NAMED))
    note += clause("; {}, which only a reload takes", changed_text())
    return Done(join_names(subjects, MAX_NAMED), note=note, job=request.job)


def _answer(request: SteeringRequest) -> str:
    """Answer a question. The job tells it, as each answer."""
    path = None
    text = request.value
    number = None
    if request.job is None:
        path, text, number = request.value
    asking: Any = request.job or _find(request.scheduler, path, None)
    subject = readable_path(asking.path)
    question = _job_queries.question_of(asking)
    if question is None:
        told = clause(": it was answered {}", getattr(asking, "_told", ""))
        raise ValueError(f"'{subject}' asks nothing now{told}")
    if type(text) is not str:
        raise ValueError(f"the answer to '{subject}': give it as text")
    if request.job is not None:
        request.check_seen([asking])
    elif (number or 1) != question[-1]:
        now = f"'{subject}' asks anew: {printable(question[0])}"
        raise ValueError(
            f"{now}; if that is what you answer, add --asked {question[-1]}"
        )
    asking._give(text, request.by)
    done = f"'{subject}': answered"
    if not asking.redact:
        done += f" {short_repr(text)}"
    return done


def _drain(request: SteeringRequest) -> Done:
    request.scheduler.drain()
    return Done(request.scheduler.label, job=request.job)


def _cancel(request: SteeringRequest) -> Done:
    if request.value is None and request.job is None:
        request.scheduler.cancel()
        return Done(request.scheduler.label)
    job = request.job or _find(request.scheduler, request.value)
    subject = unescape_path(job.path)
    if job.is_settled():
        raise ValueError(f"'{printable(subject)}' has ended")
    request.check_seen([job])
    job.cancel()
    return Done(subject, job=job)


ACTIONS: Final[dict[str, Callable[[SteeringRequest], Done | str]]] = {
    "pause": _pause, "resume": _resume, "window": _resize, "drain": _drain, "cancel": _cancel, "try-again": _try_again,
    "try-again --cancel": _try_again,
    "answer": _answer, "reload": lambda request: reload(request.by),
}  # fmt: skip


def _seen_now(run: _run_view.RunInProgress, action: str, value: Any) -> list[str]:
    """Return what a word from a shell means by the paths `value`, or by "resume": the attempts or the pause of now."""
    if action == "resume":
        return ["held" if _is_held(run) else "paused"]
    paths: list[Any] = value if type(value) in (list,) else [value]
    found: dict[str, AnyJob] = {}
    for job, path in paths_of(run.scheduler).items():
        found[path] = job
        found[printable(path)] = job
    meant = [found[path] for path in paths if path in found]
    return list(map(_job_queries.attempt_mark, meant))


def _is_held(run: _run_view.RunInProgress) -> bool:
    """Return whether a run is held for its failures, and not paused besides."""
    return run.view.pause_text.startswith("held")


def _groups_text(scheduler: Any) -> str:
    """Name the nested schedulers with windows of their own, which the new window of `scheduler` does not limit."""
    own = list[str]()
    for job, path in paths_of(scheduler).items():
        if is_scheduler(job) and not (job.is_settled() or _job_queries.is_one_job(job)):
            window = "no limit"
            if job.jobs_window is not None:
                window = short_repr(job.jobs_window)
            own.append(f"'{printable(path)}' ({window})")
    return clause(
        "; a group counts as one job there, and keeps a window of its own: {}",
        join_names(own, MAX_NAMED),
    )


def _find(scheduler: Any, path: Any, has_settled: bool | None = False) -> AnyJob:
    """Return the only job that a path means, as it is or as it is printed, which has settled or not, or for None, any.

    Raises:
        ValueError: there is none.

    """
    paths = paths_of(scheduler)
    problem = ""
    for job, its_path in paths.items():
        if path in (its_path, printable(its_path)):
            if has_settled in (None, job.is_settled()):
                return job
            problem = problem or f"'{printable(its_path)}' is {job.state.value}"
    if problem:
        raise ValueError(problem)
    states = {True: "has settled", False: "runs or waits", None: "is there"}
    hint = (
        suggest_paths(paths, str(path))
        or f"; --json has up to {MAX_JOBS} of each kind, unshortened"
    )
    raise ValueError(
        f"no job with the path {short_repr(path)} {states[has_settled]}{hint}"
    )
