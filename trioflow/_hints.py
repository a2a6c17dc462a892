"""Hints in errors: the words of other libraries, each with its counterpart here.

The words come from asyncio, concurrent.futures, asynciojobs, Dask, Prefect and the command lines of others. Errors
about unknown options, attributes, names and arguments take their hints from this table.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final, Never, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def import_extra(package: str, user: str, extra: str, known_as: str = "") -> Any:
    """Import a package that only an extra of trioflow installs.

    Args:
        package: the name to import.
        user: what needs the package, for the error message.
        extra: the extra.
        known_as: the name of the package in the error message, if it is another.

    Raises:
        ModuleNotFoundError: the package is not installed. The error names the remedy.

    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        message = f"{user} needs {known_as or package}, which is not installed: pip install 'trioflow[{extra}]'"
        raise ModuleNotFoundError(message, name=error.name) from None


def _by_word(hints: dict[str, str]) -> dict[str, str]:
    """Return the hint of each word, from the hints of words that share one."""
    by_word: dict[str, str] = {}
    for words, hint in hints.items():
        by_word.update(dict.fromkeys(words.split(), hint))
    return by_word


OPTION_ALIASES: Final = _by_word(
    {
        "after dependencies depends depends_on deps requires upstream_tasks wait_for": "required",
        "concurrency limit limiter max_concurrency max_jobs max_workers parallel window": "jobs_window",
        "name task_name task_run_name": "label",
        "max_retries retries tries": "retry",
        "cache_key cache_key_fn task_key": "key",
        "cores resource resources": "needs",
        "order": "policy",
        "deadline time_limit timeout_seconds": "timeout",
        "on_done": "on_succeeded",
        "on_settled": "on_job_settled",
    }
)
"""Options of others, each with the name of that option here."""
OPTION_HINTS: Final = {
    "args": "give the arguments after the function: Job(f, 1, 2)",
    "n_workers": "jobs_window= limits jobs, and processes= the worker processes of ProcessJobs",
    "retry_delay_seconds": "give retry=Retry(5, first=SECONDS, factor=1)",
}
OPTION_REPLACEMENTS: Final = {
    "jobs_window": "jobs_window of the Scheduler",
    "on_job_settled": "on_job_settled of the Scheduler",
    "on_succeeded": "on_succeeded of a command",
    "verbose": "run(instruments=[Monitor()])",
}

SCHEDULER_ATTRIBUTE_HINTS: Final = _by_word(
    {
        "jobs": "iterate over the scheduler, or call iterate_jobs() for those at any depth",
        "__getitem__": "keep the job that add() returns, or look for its label: {job.label: job for job in scheduler}",
        "__enter__": "write: async with Scheduler() as scheduler, or scheduler.run()",
        "start": "write: await scheduler.co_run(), or scheduler.run()",
        "create_task start_soon submit": "call add(Job(f, 1)), in an async with block of the scheduler",
    }
)
ATTRIBUTE_HINTS: Final = _by_word(
    {
        "__rshift__": "write: Job(f, required=job), or Sequence(job, other)",
        "add_done_callback": "give the scheduler on_job_settled=f",
        "cancelled": "compare state with JobState.CANCELLED",
        "done": "call is_settled(), or is_done() for a job that ran to its end",
        "exception": "call raised_exception()",
        "run start": "its scheduler runs it: Scheduler(job).run()",
        "status": "read state, a JobState",
        "then": "write: Job(f, job), which gets its result",
        "value": "call result()",
        "wait": "write: await job",
    }
)
MISSING_ATTRIBUTES: Final = frozenset((*ATTRIBUTE_HINTS, *SCHEDULER_ATTRIBUTE_HINTS))
MODULE_HINTS: Final = _by_word(
    {
        "Engine": "import trioflow.compat.asynciojobs_classic for programs of old asynciojobs, or use Scheduler",
        "Flow": "use Scheduler",
        "PrintJob": "use a Job whose function prints, or import it from trioflow.compat.asynciojobs",
        "FamilyTime Simulation Span TimeSpent Wait": "import it from trioflow.view",
        "PureScheduler": "use Scheduler, or import it from trioflow.compat.asynciojobs",
        "SchedulerJob": "use Scheduler, which nests, or import it from trioflow.compat.asynciojobs_classic",
        "Task": "use Job",
        "TaskGroup": "use Scheduler; async with Scheduler() as scheduler: scheduler.add(Job(f)) starts jobs at once",
    }
)
CALL_HINTS: Final = {
    "AbstractJob.requires": "a requirement has to succeed unless you give settled=True",
    "Adaptive": "give the smallest and the largest size: Adaptive(2, 64)",
    "Answer": "name the choices: Answer('deploy?', choices=['yes', 'no'])",
    "Scheduler.cancel": "job.cancel() cancels one job",
    "Scheduler.explain": "name the job: explain(job); debrief(), stop_reason and culprit are about the run",
    "Scheduler.results": "results() has the results of all jobs, by job; job.result() is that of one",
    "Budget": "give one amount, and name it in the Pool: Pool(usd=Budget(3))",
    "CommandJob": "give the command and its arguments as one list: CommandJob(['ls', '-l'])",
    "CommandService": "give the command and its arguments as one list: CommandService(['server', '-v'], ready=...)",
    "PerKey": "give one limit, and name it in the Pool: Pool(host=PerKey(2)); gap= is the time between its jobs",
    "Pool": "name the resources: Pool(cpu=8)",
    "Rate": "give each amount with its key: Rate(requests=60, per=1)",
    "Retry": "give the retries, and first=, factor= or cap= of their backoffs: Retry(2, first=1.0) makes 3 attempts",
    "Throttled": "name the resource, and give the seconds: Throttled('api', after=5)",
    "SshJob": "give one command as a string, several steps as a list: SshJob(node, ['make', Pull('log', to='.')])",
}
"""The form that was meant by arguments that do not fit, by the class or method."""
COMMAND_LINE_HINTS: Final = _by_word(
    {
        "--config": "--ssh-config FILE is a configuration of ssh",
        "--login": "--username NAME is the user on the node",
        "--concurrency --max-workers --parallel --workers": "-j N limits the jobs at once",
    }
)
"""Options of others' commands, and earlier ones. Each hint begins with the option that a subcommand may have."""
RUN_OPTION_HINTS: Final = _by_word(
    {
        "--resume --continue --restart": "--journal FILE continues where a run ended",
        "--dry-run --dryrun": "trioflow check FILE finds errors without a run, and trioflow list FILE shows the jobs",
        "--port": "--web chooses the port",
    }
)
"""Options of others that `trioflow run` lacks."""
PARALLEL_OPTION_HINTS: Final = _by_word(
    {
        "--eta --progress": "--bar shows the progress",
        "--resume --resume-failed --retry-failed": "--journal FILE continues where a batch ended",
        "-u --ungroup": "--line-buffer prints each line as it is written",
        "-n --max-args -L": "-N gives each command several arguments",
        "-d --delimiter": "tr , '\\n' | or xargs -d , -n1 | in front makes a line of each argument",
        "-q --quote": "quote COMMAND as a whole: its words are joined, and a shell reads them",
        "--link --xapply": ":::+ and ::::+ pair a source with the one before it",
        "--pipe --pipe-part --pipepart --block": "cut the data with split(1), and run a command for each part",
        "--plus --rpl --parens": "{.}, {/}, {//} and {/.} stand for parts; $(printf %03d {#}) has zeros in front",
        "--semaphore --sem": "flock(1) lets commands take turns",
        "--bg --fg --wait": "'&' at the end of the line starts it in the background",
        "--onall --nonall": "trioflow ssh -H NODES COMMAND runs a command on each node",
        "--transferfile --tf --return --basefile --trc": "a scenario file copies files with SshJob",
        "--workdir --wd": "write 'cd DIR && COMMAND'",
        "--color --ctag --latest-line": "--tag tells the outputs apart",
        "--memsuspend --noswap": "--memfree SIZE starts no more while less is free",
        "--group --gnu --no-notice --plain --will-cite": "leave it out",
        "--reads --writes": "a scenario file declares files: CommandJob(reads=[...], writes=[...])",
        "-E": "pipe the lines through sed '/END/,$d'",
        "-I": "{} is the replacement string of the argument",
        "-t -v --verbose": "--dry-run prints commands, and 'set -x; COMMAND' each as it starts",
        "-r": "pipe the lines through grep .",
        "--csv": "--colsep , splits each line into {1}, {2} and so on",
        "--env": "leave it out: commands have all variables",
        "--max-procs": "-j N limits the commands at once",
        "--process-slot-var": "write NAME={%} COMMAND",
        "--shuf": "pipe the lines through shuf",
        "--trim": "pipe the lines through sed",
        "--delay": "a scenario file spaces starts by a Rate; 'sleep 0.1; COMMAND' with -j1 does it, too",
        "--files": "--results DIR saves what the commands write",
        "--header": "leave the line out by tail -n +2; {1}, {2} and so on are the columns",
        "--load": "--needs cpu=N and --memfree hold commands back",
        "--nice": "write it in the command: nice -n 10 COMMAND",
        "--tagstring": "--tag prints the arguments; COMMAND | sed 's/^/{#} /' any other text",
    }
)
"""Options of GNU parallel that `trioflow batch` lacks."""
OPTION_HINTS_OF_COMMANDS: Final = {
    "batch": PARALLEL_OPTION_HINTS,
    "run": RUN_OPTION_HINTS,
}
MISSING_OPTION_HINTS: Final = {"ssh": "write: trioflow ssh -H node1,node2 uname"}
"""What to write where an option is missing, by command."""

WRONG_BACKEND_REMEDY: Final = ContextVar(
    "REMEDY", default='run it with backend="{0}", or await co_run() on {0}'
)
"""How to run a scenario on another backend, in the words of a program. The command line sets its own."""


class MissingAttribute:
    """A descriptor for an attribute that jobs do not have. Reading it raises an error with a hint.

    A `__getattr__` would make each attribute of a job slower to read, and a run of small jobs 40 % slower.
    """

    def __init__(self, name: str, hint: str) -> None:
        self._name = name
        self._hint = hint
        # `help()` lists the name, as it lists all that a class has.
        self.__doc__ = f"Not an attribute of jobs: {hint}."

    def __get__(self, instance: object, kind: type) -> Never:
        message = (
            f"{kind.__name__!r} object has no attribute {self._name!r}: {self._hint}"
        )
        if self._name.startswith("__"):
            # Without the name, so that Python adds no guess of its own.
            raise AttributeError(message)
        raise AttributeError(message, name=self._name, obj=instance)


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like an unknown name, or None if none is similar."""
    # Only needed for errors.
    import difflib

    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.65)
    return nearest[0] if nearest else None


def explain_form(function: F) -> F:
    """Decorate a constructor or a method: a call whose arguments do not fit gets the form that was meant."""

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                # Raised inside of the call.
                raise
            hint = CALL_HINTS[function.__qualname__.removesuffix(".__init__")]
            raise TypeError(f"{error}; {hint}") from None

    return cast(F, call)
