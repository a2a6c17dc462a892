# pyright: reportUnusedImport=false
"""What a journal needs of the engine. With this file alone, somebody may write one that keeps results in PostgreSQL.

```
run(journal=J) ──► J.open_for(scheduler) ──► a RunJournal, which the run asks, in the event loop:

  job is ready ──► look_up(job): its result, or NotStored(why) ──► it is restored, or it runs
  job SUCCEEDED ──► record(job, value) ──► commit(), once in a turn of the loop, or after each job (commits_each)
  job is dropped, by keep_jobs=False ──► forget(job)
  a nested scheduler starts ──► nested(scheduler): the RunJournal for its run        at the end ──► close(...)
```

What else there is to know of a job is public: `label`, `required`, `state`, `elapsed`. The functions below add what
identifies its work, and what it is called in the journal:

- its path, by which it is found again: `Paths`;
- whether it can be restored at all: `always_runs`; and how it is to be kept: `settings_of`;
- its function and arguments, or what another kind of job says of its work (`AbstractJob.for_journal`), with something
  in place of the jobs among them: `call_with`, `with_inputs`;
- the result of an input: `value_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, final

from ..base._log import warn
from ..base._shown import beginning, headline, is_among, shown
from ..base._states import JobState
from ..job._call import Arguments, Call, DirectArguments, Search
from ..job._errors import JournalError
from ..job._function import FunctionJob
from ..job._job import AbstractJob, is_scheduler
from ..job._labels import Names
from ..job._options import SaveName, file_path, flag
from ..job._options import save as checked_save
from ..job._outcome import DROPPED
from ..job._work import Depfile, Hidden, Optional, Work
from ..run._durable import NOT_KEPT, NOT_THERE, Keeper, NotStored, RunJournal
from ..scheduler._failures import failed_through_member
from ..scheduler._scheduler import BaseScheduler

if TYPE_CHECKING:
    from ..job._options import JobSave, Save

ValueOf = Callable[[AbstractJob[Any]], Any]
SERVICE: Final = object()
"""In place of the value of a service: it runs in each run, and its value may be anything."""


class Settings(Protocol):
    """The options of a job that are for a journal; `AbstractJob` says what they mean."""

    @property
    def save(self) -> JobSave: ...
    @property
    def key(self) -> object: ...
    @property
    def version(self) -> object: ...
    @property
    def redact(self) -> bool: ...


@final
class Paths:
    """The paths of the jobs of one run, each made when it is asked for. They say the same as `job.path`, and cost less.

    Args:
        scheduler: the scheduler of the run.
        prefix: what the paths begin with.

    """

    def __init__(self, scheduler: BaseScheduler, prefix: str = "") -> None:
        self._scheduler: Final = scheduler
        self._prefix: Final = prefix
        self._paths: Final[dict[AbstractJob[Any], str]] = {}
        self._names: Final = Names()

    def nested(self, scheduler: AbstractJob[Any]) -> Paths:
        """Return the paths of the jobs of a nested scheduler, a job of this run."""
        assert is_scheduler(scheduler)
        return Paths(scheduler, f"{self.of(scheduler)}/")

    def of(self, job: AbstractJob[Any]) -> str:
        """Return the path of a job. Names depend on the siblings before it, so all of them get theirs in order."""
        path = self._paths.get(job)
        if path is None:
            new: list[AbstractJob[Any]] = []
            for one in reversed(self._scheduler._members.jobs):
                if one in self._paths:
                    break
                new.append(one)
            for one in reversed(new):
                self._paths[one] = self._prefix + self._names.unique(one.label, one._is_scheduler)
            path = self._paths[job]
        return path

    def forget(self, job: AbstractJob[Any]) -> None:
        """Forget a job that its scheduler is about to drop; its name stays taken."""
        self.of(job)  # so that those after it are called the same whether or not somebody has asked for its name
        del self._paths[job]


def always_runs(job: AbstractJob[Any]) -> bool:
    """Return whether a job runs in each run, whatever a journal has: a scheduler, a service, or another forever job."""
    return job._is_scheduler or job._forever


def settings_of(job: AbstractJob[Any]) -> Settings | None:
    """Return what a job says to a journal; None if it says nothing. It costs a tenth of looking at the options."""
    return job._limits


def value_of(job: AbstractJob[Any]) -> Any:
    """Return the result of a job that has succeeded; DROPPED if it was given up, and SERVICE for a service."""
    return SERVICE if job._is_service else job._outcome


def call_with(job: FunctionJob[Any], value_of: ValueOf) -> tuple[Any, tuple[Any, ...], dict[str, Any] | None] | None:
    """Return the function of a job, its arguments by position, and those by name, or None.

    Args:
        job: the job.
        value_of: called with each input; what it returns is in its place, at any depth of lists, tuples and dicts. A
            job that is passed as itself stays.

    Returns:
        None if the job was made of a coroutine object, whose arguments nobody can see.

    """
    if job._is_one_shot():
        return None
    given: Any = job._args
    args = cast("tuple[Any, ...]", given if type(given) is tuple else given.with_inputs(value_of))
    function: Any = job._function
    if type(function) is Call:
        return cast(Any, function.func), args, function.with_inputs(value_of)
    return function, args, None


def with_inputs(values: Iterable[Any], value_of: ValueOf) -> tuple[Any, ...]:
    """Return values, such as the arguments of a `Work`, with `value_of(job)` in place of each job, at any depth.

    Raises:
        TypeError, ValueError: a job stands where nothing can be put in its place.

    """
    found = Search(lambda: "for_journal()").positional(tuple(values))
    return found.with_inputs(value_of) if isinstance(found, Arguments) else found


def input_at(job: AbstractJob[Any], number: int) -> AbstractJob[Any] | None:
    """Return the input that is the argument of a function with this number, counted from 1; None if it is another."""
    args: Any = job._args if isinstance(job, FunctionJob) else ()
    is_one = isinstance(args, DirectArguments) and number - 1 in args._places
    return args._values[number - 1] if is_one else None
