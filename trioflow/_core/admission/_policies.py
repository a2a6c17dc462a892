"""The order of ready jobs: `Policy`, built in or by users, `Outlook`, facts for a policy, and `StartKeys`, their keys.

The `key` of a user's policy is called by `SafePolicy`, which catches its errors during a run.

The rank of a job is the length of the longest path from its start to the end of an exit job. List scheduling by rank is
due to Hu 1961 ("Parallel Sequencing and Assembly Line Problems"), for equal durations. Adam, Chandy and Dickson 1974
("A Comparison of List Schedules for Parallel Processing Systems") called it HLFET, highest level first with estimated
times, and found it within 5 % of the optimum in most graphs. In HEFT (Topcuoglu, Hariri and Wu 2002), the rank is the
upward rank. Computing all ranks takes O(V + E).
"""

from __future__ import annotations

import itertools
import math
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, Protocol, get_args

from ..base._graph_algorithms import fill_longest_path_lengths, topological_order
from ..base._text_forms import short_repr
from ..base._user_code import get_traceback, is_async, set_traceback, signature_of
from ..job import _job_options
from ..job._job import AbstractJob

HeapEntry = tuple[Any, int, AbstractJob[Any]]
Requirements = Callable[[AbstractJob[Any]], Iterable[AbstractJob[Any]]]
FailRun = Callable[[AbstractJob[Any], BaseException], None]


class Outlook(Protocol):
    """Facts that a policy can use about the jobs of a run, in addition to the attributes of the jobs."""

    starts: int
    """The number of job starts in this run so far. A job that was throttled counts again when it starts again."""

    def expected_duration(self, job: AbstractJob[Any]) -> float | None:
        """Return the expected duration of a job in seconds, or None if unknown.

        `Scheduler(durations=...)` takes precedence over the job's own `expected_duration`. A nested scheduler without
        either is expected to take as long as the longest path through its jobs, if any of their durations is known.
        """
        ...

    def rank(self, job: AbstractJob[Any]) -> float:
        """Return the length, in seconds, of the longest path from the start of a job to the end of an exit job.

        A job of unknown duration counts as the median of the known durations, or as 1 second if none is known.

        Raises:
            RuntimeError: the policy does not set `needs_ranks`.
            ValueError: `job` is not in this scheduler.

        """
        ...


class Policy(Protocol):
    """A start order for the ready jobs of a scheduler.

    Derive a class from it, define `key`, and pass an instance to `Scheduler(policy=...)` instead of a name. An
    object of another class must define all three members. Several schedulers can share an object. A job's `priority`
    takes precedence over the policy. Among jobs with the same key, the job that became ready first starts first.

    A policy must not change the scenario or the run. If `key` raises an exception, or returns an invalid key, the run
    ends CRITICAL. The error names the policy and the job. It is logged, shown by `debrief()`, and passed to instruments
    as an incident. An interruption such as `KeyboardInterrupt` ends the run as usual.

    Example:
        >>> class ShortestFirst(Policy):
        ...     def key(self, job, outlook):
        ...         return outlook.expected_duration(job) or 0.0
        ...     def reason(self, job, outlook):
        ...         return "the shortest job first"
        >>> started = []
        >>> async def work(name):
        ...     started.append(name)
        >>> jobs = [Job(work, name, expected_duration=seconds) for name, seconds in (("b", 2), ("c", 3), ("a", 1))]
        >>> Scheduler(*jobs, jobs_window=1, policy=ShortestFirst()).run(), started
        (True, ['a', 'b', 'c'])

    """

    needs_ranks: bool = False
    """Whether `key` or `reason` uses `Outlook.rank`. Ranks cost a pass over all jobs and requirements."""

    @abstractmethod
    def key(self, job: AbstractJob[Any], outlook: Outlook) -> float | tuple[float, ...]:
        """Return the sort key of a ready job: a number, or a tuple of numbers. The smallest starts first.

        The run calls this in its own thread when the job becomes ready, and again if added jobs change the order, or a
        pause or a smaller window puts the job back.

        Args:
            job: the job. In a simulation, this is the original job of the scenario, which stays IDLE.
            outlook: the facts about the jobs in this run.

        """
        ...

    def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
        """Describe in a few words why other jobs start before a ready job, for `Scheduler.explain`.

        The default implementation names the class of the policy.
        """
        return f"by {type(self).__name__}"


PolicyName = Literal["auto", "fifo", "critical-path"]
POLICY_NAMES: Final[tuple[PolicyName, ...]] = get_args(PolicyName)


class Fifo(Policy):
    """The policy "fifo": the job that became ready first starts first, so that no line has to be ordered."""

    def key(self, job: AbstractJob[Any], outlook: object) -> float:
        return 0.0


class CriticalPath(Policy):
    """The policy "critical-path": the job with the longest expected path to an exit job starts first."""

    needs_ranks = True

    def key(self, job: AbstractJob[Any], outlook: Any) -> float:
        rank: float = outlook.ranks[job]
        return -rank

    def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
        return f"critical path: the longest path from {job.label!r} takes {outlook.rank(job):.4g} s"


RunPolicies = tuple[Policy, Policy]
"""The policy of a run without expected durations, and the policy of a run whose jobs have some."""
FIFO_POLICY: Final = Fifo()
CRITICAL_PATH_POLICY: Final = CriticalPath()
BUILTIN_POLICIES: Final[dict[PolicyName, RunPolicies]] = {
    "auto": (FIFO_POLICY, CRITICAL_PATH_POLICY),
    "fifo": (FIFO_POLICY, FIFO_POLICY),
    "critical-path": (CRITICAL_PATH_POLICY, CRITICAL_PATH_POLICY),
}

ready_numbers: Final = itertools.count()
"""Ascending sequence numbers for jobs that become ready, shared by all runs."""
throttled_numbers: Final = itertools.count(-sys.maxsize)
"""Ascending sequence numbers for jobs that were throttled, which start before all others."""
returned_numbers: Final = itertools.count(-1, -1)
"""Descending sequence numbers for jobs that were admitted, but put back before they began: they start before equals."""
LOWEST_KEY: Final = (-math.inf,)
"""The key of these jobs, which sorts before the keys of all others."""
DEFAULT_DURATION: Final = 1.0
"""The assumed duration of every job, in seconds, if no duration is known."""


def median_duration(known: Iterable[float]) -> float:
    """Return the median of the known durations, in seconds, or `DEFAULT_DURATION` if there are none.

    Jobs of unknown duration are assumed to take this long. This does not use `statistics.median`, because importing
    `statistics` would import many other modules.
    """
    ordered = sorted(known) or [DEFAULT_DURATION]
    return ordered[(len(ordered) - 1) // 2] / 2 + ordered[len(ordered) // 2] / 2


class StartKeys(Outlook):
    """The keys of the ready jobs of a run, and the facts that its policy may use for them.

    A key is a pair of a negated priority and the policy's key: jobs with a higher `priority` start first, and the
    policy orders jobs of equal priority. Jobs with equal keys start in the order that they became ready. Jobs that
    became ready together start in the order that they were added.

    Args:
        policy: the policy.
        known: the known expected durations, in seconds. All other jobs are assumed to take the `median_duration`.
        starts: the number of job starts so far.

    """

    def __init__(self, policy: Policy, known: dict[AbstractJob[Any], float], starts: int = 0) -> None:
        self.policy: Final = policy
        self.starts = starts
        self._known: Final = known
        self._assumed_duration: Final = median_duration(known.values())
        # The rank of each job, or empty if the policy does not need ranks.
        self.ranks: Final[dict[AbstractJob[Any], float]] = {}

    def key(self, job: AbstractJob[Any]) -> Any:
        return (-job._options.priority, self.policy.key(job, self))

    def compute_ranks(self, jobs: list[AbstractJob[Any]], requirements: Requirements) -> Iterator[None]:
        """Compute the ranks of jobs, which are in topological order. Yield whenever a pause is due. O(V + E)."""
        return fill_longest_path_lengths(jobs, requirements, self._known, self._assumed_duration, self.ranks)

    def expected_duration(self, job: AbstractJob[Any]) -> float | None:
        return self._known.get(job)

    def rank(self, job: AbstractJob[Any]) -> float:
        """Return the rank of a job, in seconds.

        Raises:
            RuntimeError: the policy does not set `needs_ranks`.
            ValueError: `job` is not in this scheduler.

        """
        if not self.policy.needs_ranks:
            raise RuntimeError("rank() is known only to a policy with needs_ranks = True")
        try:
            return self.ranks[job]
        except KeyError:
            raise ValueError(f"rank() of {job!r}: it is not a job of this scheduler") from None

    def add_jobs(
        self, jobs: list[AbstractJob[Any]], known: dict[AbstractJob[Any], float], requirements: Requirements
    ) -> None:
        """Add jobs that were added to the running scheduler together. The ranks of other jobs stay. O(V + E)."""
        self._known.update(known)
        if self.policy.needs_ranks:
            new = set(jobs)
            order = topological_order(jobs, lambda job: filter(new.__contains__, requirements(job)))
            for _ in self.compute_ranks(order, requirements):
                pass

    def forget(self, job: AbstractJob[Any]) -> None:
        self._known.pop(job, None)
        self.ranks.pop(job, None)


threads_in_key: Final[set[int]] = set()
"""The identifiers of the threads that run the `key` of a user-defined policy."""


def check_policy(policy: Any, name: str, subject: _job_options.Subject) -> PolicyName | Policy:
    """Check the option `policy` of a scheduler, and return it.

    Args:
        policy: the value of the option.
        name: the name of the option, for errors.
        subject: the scheduler's name in errors.

    Raises:
        ValueError: the value is a string, but not the name of a policy.
        TypeError: the value lacks a member of a `Policy`, or a member has the wrong type.

    """
    what = f"{name}={short_repr(policy)} of {_job_options.subject_text(subject)}"
    choices = ", ".join(POLICY_NAMES)
    if isinstance(policy, str):
        if policy not in POLICY_NAMES:
            raise ValueError(f"{what}: choose one of {choices}, or give an instance of trioflow.abc.Policy")
        return policy
    if isinstance(policy, type):
        raise TypeError(f"{what} is a class: give an instance, {policy.__name__}()")
    if missing := [member for member in ("key", "needs_ranks", "reason") if not hasattr(policy, member)]:
        raise TypeError(
            f"{what} has no {' and no '.join(missing)}: choose one of {choices}, or derive its class from "
            f"trioflow.abc.Policy"
        )
    if not isinstance(policy.needs_ranks, bool):
        raise TypeError(f"{what}: its needs_ranks is {short_repr(policy.needs_ranks)}; set it to True or False")
    for method in ("key", "reason"):
        _check_method(getattr(policy, method), f"{what}: its {method}")
    instance: Policy = policy
    return instance


def _check_method(method: object, what: str) -> None:
    if not callable(method):
        raise TypeError(f"{what} is {short_repr(method)}: make it a method that takes a job and an outlook")
    if is_async(method):
        raise TypeError(f"{what} is an async function: make it a plain function")
    try:
        signature = signature_of(method)
    except (TypeError, ValueError):
        # Some functions implemented in C have no signature.
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise TypeError(f"{what} takes {signature}: let it take a job and an outlook") from None


def reject_call_from_policy(call_text: str) -> None:
    """Reject a call from the `key` of a policy, which must not change the run.

    Args:
        call_text: the call, for the error message.

    Raises:
        RuntimeError: the call comes from the `key` of a policy.

    """
    if threading.get_ident() in threads_in_key:
        raise RuntimeError(f"{call_text}: called from the key() of a policy, which must not change the run")


def name_of_policy(policy: PolicyName | Policy) -> str:
    """Return the name of a built-in policy, or the class name of a user-defined policy."""
    return policy if isinstance(policy, str) else type(policy).__name__


def make_run_policies(policy: PolicyName | Policy, fail: FailRun) -> RunPolicies:
    """Return the policies for a run without and with expected durations.

    Args:
        policy: the option `policy` of the scheduler.
        fail: called with the job and the exception if the `key` of a user-defined policy raises. It stops the run.

    """
    if isinstance(policy, str):
        return BUILTIN_POLICIES[policy]
    safe = SafePolicy(policy, fail)
    return safe, safe


class SafePolicy(Policy):
    """A wrapper of a user-defined policy. If its `key` raises, the run ends, but the job still gets a key."""

    def __init__(self, policy: Policy, fail: FailRun) -> None:
        self._policy: Final = policy
        self._fail: Final = fail
        self.needs_ranks = policy.needs_ranks

    def key(self, job: AbstractJob[Any], outlook: Outlook) -> tuple[float, ...]:
        thread = threading.get_ident()
        threads_in_key.add(thread)
        try:
            key: Any = self._policy.key(job, outlook)
            return tuple(map(_check_number, key if isinstance(key, tuple) else (key,)))  # pyright: ignore[reportUnknownArgumentType]
        except BaseException as error:  # return a key nevertheless, so that the job gets into its queue
            # Leave out this frame, because the stored error must not keep the run alive.
            traceback = get_traceback(error)
            set_traceback(error, traceback and traceback.tb_next)
            self._fail(job, error)
            return ()
        finally:
            threads_in_key.discard(thread)

    def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
        try:
            return str(self._policy.reason(job, outlook))
        except Exception as error:
            return f"by {name_of_policy(self._policy)}, whose reason() raised {error!r}"


def _check_number(value: Any) -> float:
    """Return a number as an `int` or a `float`, because comparisons of these never raise.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value is `nan`, which cannot be ordered.

    """
    if value.__class__ not in (float, int):
        from numbers import Real

        if not isinstance(value, Real):
            raise TypeError(f"key() returned {short_repr(value)}: return a number, or a tuple of numbers")
        value = float(value)
    if value != value:
        raise ValueError("key() returned nan, which cannot be compared: return another number")
    number: float = value
    return number
