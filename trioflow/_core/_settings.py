"""What a job is told once: its label and the options that every kind of job has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _options
from ._states import OnTimeout, RunIf

if TYPE_CHECKING:
    from ._scheduler import BaseScheduler


class Settings:
    """The options of one job; `AbstractJob` says what each of them means."""

    __slots__ = ("_critical", "_forever", "_label", "_limits", "_rule", "_scheduler")

    _label: str | None
    _critical: bool | None
    _forever: bool
    _limits: _options.Limits | None
    _rule: _options.Rule | None
    _scheduler: BaseScheduler | None

    @property
    def label(self) -> str:
        """The job's name for people: as given, or made out of what it does."""
        return self._label if self._label is not None else self._default_label()

    @label.setter
    def label(self, label: str | None) -> None:
        self._label = label if label is None else str(label)

    @property
    def critical(self) -> bool | None:
        """Whether a failure ends the run; None leaves it to the scheduler. `is_critical()` is the effective value."""
        return self._critical

    @critical.setter
    def critical(self, critical: bool | None) -> None:
        self._critical = critical

    @property
    def forever(self) -> bool:
        """Whether it runs beside the others and is cancelled when all of those have settled."""
        return self._forever

    @forever.setter
    def forever(self, forever: bool) -> None:
        self._refuse_during_run("forever")
        self._forever = forever
        self._limits = self._limits or _options.NO_LIMITS  # only ordinary jobs are on the shortest path

    @property
    def timeout(self) -> float | None:
        """Seconds that each call of `co_run` may take, or None."""
        return (self._limits or _options.NO_LIMITS).timeout

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        self._refuse_during_run("timeout")
        old = self._limits or _options.NO_LIMITS
        self._limits = _options.limits(
            timeout, old.on_timeout, old.restarts, old.own_task, old.retry, self._name_for_errors()
        )

    @property
    def on_timeout(self) -> OnTimeout:
        """What happens when the timeout has passed: "fail", "restart" or "move_on"."""
        return (self._limits or _options.NO_LIMITS).on_timeout

    @property
    def restarts(self) -> int | None:
        """How often at most a timeout restarts it; None for no limit."""
        return (self._limits or _options.NO_LIMITS).restarts

    @property
    def own_task(self) -> bool:
        """Whether no other job shares its task."""
        return (self._limits or _options.NO_LIMITS).own_task

    @property
    def retry(self) -> _options.Retry:
        """How many further attempts it has when it raises, or the decorator that decides; None for no further one."""
        return (self._limits or _options.NO_LIMITS).retry

    @property
    def run_if(self) -> RunIf:
        """Whether it runs when all it requires has "settled", "succeeded", or when one of them has "failed"."""
        return "settled" if self._rule is None else self._rule.run_if

    @property
    def keep_result(self) -> bool:
        """Whether its result stays when all the jobs that use it have started."""
        return self._rule is None or self._rule.keep_result

    def is_critical(self) -> bool:
        """Return the effective value of `critical`: the nearest that is not None, from the job outwards; else False."""
        job: Settings | None = self
        while job is not None:
            if job._critical is not None:
                return job._critical
            scheduler = job._scheduler
            if scheduler is not None and scheduler.critical_jobs is not None:
                return scheduler.critical_jobs
            job = scheduler
        return False

    def _default_label(self) -> str:
        return type(self).__name__

    def _name_for_errors(self) -> str:
        return repr(self._label if self._label is not None else self._default_label())

    def _refuse_during_run(self, what: str) -> None:
        if self._scheduler is not None and self._scheduler._run is not None:
            raise RuntimeError(f"{what} of {self.label!r}: not while its scheduler {self._scheduler.label!r} runs")
