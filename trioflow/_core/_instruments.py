"""The observer interface, and how a run tells its observers.

A run without instruments has no `Observers` at all: that is what makes them free. With some, each hook has the list
of the bound methods that really override it, so an empty hook costs nothing either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from . import _log

if TYPE_CHECKING:
    from ._jobs import AbstractJob
    from ._scheduler import BaseScheduler

    Teller = Callable[[BaseScheduler, AbstractJob[Any]], None]


class Instrument:
    """Something that watches runs; override the hooks that matter.

    Hooks are plain functions, called by the run where the event happens: they must be quick and must not change the
    scenario. Events of nested schedulers reach the instruments of the outer ones too. One that raises is logged and
    taken out of the run; the run goes on.

    Example:
        >>> class Starts(Instrument):
        ...     def job_started(self, scheduler, job):
        ...         print("start", job.label)

    """

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Take note that a run of `scheduler` begins; all checks have passed."""

    def job_added(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Take note that `job` was added to the running `scheduler`."""

    def job_scheduled(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Take note that all that `job` requires has settled: it waits for a slot."""

    def job_started(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Take note that `job` starts."""

    def job_attempt(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Take note that an attempt of `job` begins, the first one included."""

    def job_ready(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Take note that the service `job` has said that it is ready."""

    def job_finished(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Take note that `job` is in a final state."""

    def incident(
        self, scheduler: BaseScheduler, job: AbstractJob[Any] | None, message: str, exception: BaseException | None
    ) -> None:
        """Take note of something that belongs to no outcome, such as a `co_shutdown` that raised."""

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Take note that the run of `scheduler` has ended, everything shut down."""


HOOKS: Final = tuple(name for name in vars(Instrument) if not name.startswith("_"))


class Observers:
    """The instruments of one run, the outer runs' included, ready to be called hook by hook."""

    __slots__ = ("_hooks", "_taken_out", "instruments")

    def __init__(self, instruments: Iterable[Instrument], outer: Observers | None = None) -> None:
        """Look up once which instrument overrides which hook; those of the `outer` run come last."""
        self._taken_out: Final[set[int]] = set() if outer is None else outer._taken_out
        own = {id(instrument): instrument for instrument in (*instruments, *(outer.instruments if outer else ()))}
        self.instruments: Final[tuple[Instrument, ...]] = tuple(
            one for number, one in own.items() if number not in self._taken_out
        )
        self._hooks: Final = {
            hook: [
                getattr(instrument, hook)
                for instrument in self.instruments
                if getattr(type(instrument), hook, None) is not getattr(Instrument, hook) or hook in _own(instrument)
            ]
            for hook in HOOKS
        }

    def tell(self, hook: str, *details: Any) -> None:
        """Call `hook` of each instrument; one that raises is logged and not called again in this run."""
        for method in self._hooks[hook]:
            self._call(method, hook, details)

    def teller(self, *hooks: str) -> Teller | None:
        """Return a function that calls these hooks, one after the other; None if no instrument overrides any.

        For the worker's shortest path, where looking up a hook would cost as much as calling it.
        """
        methods = [(method, hook) for hook in hooks for method in self._hooks[hook]]
        taken_out = self._taken_out

        def tell(scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
            for method, hook in methods:
                if taken_out:
                    self._call(method, hook, (scheduler, job))
                    continue
                try:
                    method(scheduler, job)
                except Exception as error:
                    self._take_out(method, hook, error)

        return tell if methods else None

    def _call(self, method: Callable[..., None], hook: str, details: tuple[Any, ...]) -> None:
        if self._taken_out and id(getattr(method, "__self__", method)) in self._taken_out:
            return
        try:
            method(*details)
        except Exception as error:  # the instrument's fault must not become the run's
            self._take_out(method, hook, error)

    def _take_out(self, method: Callable[..., None], hook: str, error: Exception) -> None:
        instrument = getattr(method, "__self__", method)
        _log.warn(f"instrument {instrument!r} raised in {hook} and is taken out of this run", error)
        self._taken_out.add(id(instrument))


def tellers(observers: Observers | None) -> tuple[Teller | None, Teller | None, Teller | None]:
    """Return what tells of a start, of an end, and that a job is scheduled: None where nobody listens."""
    if observers is None:
        return None, None, None
    return (
        observers.teller("job_started", "job_attempt"),
        observers.teller("job_finished"),
        observers.teller("job_scheduled"),
    )


def _own(instrument: Instrument) -> dict[str, Any]:
    return getattr(instrument, "__dict__", {})


def checked(instruments: Any, who: str) -> tuple[Instrument, ...]:
    """Return the instruments as a tuple, if that is what they are.

    Raises:
        TypeError: not a collection of instruments.

    """
    if isinstance(instruments, Instrument):
        raise TypeError(f"instruments={instruments!r} of {who}: give a list of instruments, such as [{instruments!r}]")
    found = tuple(instruments)
    for instrument in found:
        if isinstance(instrument, type) or not isinstance(instrument, Instrument):
            raise TypeError(f"{instrument!r} among the instruments of {who}: give objects of trioflow.abc.Instrument")
    return found
