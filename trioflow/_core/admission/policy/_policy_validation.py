"""User-defined policies: their validation, and `SafePolicy`, which catches their errors during a run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ...base._text_forms import short_repr
from ...base._user_code import get_traceback, is_async, set_traceback, signature_of
from ...job import _job_options
from ._builtin_policies import BUILTIN_POLICIES, POLICY_NAMES, PolicyName, RunPolicies
from ._policy import Outlook, Policy

if TYPE_CHECKING:
    from ...job._job import AbstractJob
    from ...job._job_options import Subject

    FailRun = Callable[[AbstractJob[Any], BaseException], None]

POLICY_MEMBERS: Final = ("key", "needs_ranks", "reason")
threads_in_key: Final[set[int]] = set()
"""The identifiers of the threads in which the `key` of a user-defined policy is running."""


def check_policy(policy: Any, name: str, subject: Subject) -> PolicyName | Policy:
    """Check the option `policy` of a scheduler, and return it.

    Args:
        policy: the value of the option.
        name: the name of the option, for errors.
        subject: what to call the scheduler in errors.

    Raises:
        ValueError: the value is a string, but not the name of a policy.
        TypeError: the value lacks a member of a `Policy`, or has one of the wrong type.

    """
    what, choices = f"{name}={short_repr(policy)} of {_job_options.subject_text(subject)}", ", ".join(POLICY_NAMES)
    if isinstance(policy, str):
        if policy not in POLICY_NAMES:
            raise ValueError(f"{what}: choose one of {choices}, or give an instance of trioflow.abc.Policy")
        return policy
    if isinstance(policy, type):
        raise TypeError(f"{what} is a class: give an instance, {policy.__name__}()")
    if missing := [member for member in POLICY_MEMBERS if not hasattr(policy, member)]:
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


def _check_method(method: Any, what: str) -> None:
    if not callable(method):
        raise TypeError(f"{what} is {short_repr(method)}: make it a method that takes a job and an outlook")
    if is_async(method):
        raise TypeError(f"{what} is an async function: make it a plain function")
    try:
        signature = signature_of(method)
    except (TypeError, ValueError):  # some functions implemented in C have no signature
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
    """Return the name of a built-in policy, or the class name of a user-defined one."""
    return policy if isinstance(policy, str) else type(policy).__name__


def make_run_policies(policy: PolicyName | Policy, fail: FailRun) -> RunPolicies:
    """Return the policies for a run without and with expected durations.

    Args:
        policy: the option `policy` of the scheduler.
        fail: called with the job and the exception if the `key` of a user-defined policy raises; it stops the run.

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
            return _as_tuple(self._policy.key(job, outlook))
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


def _as_tuple(key: Any) -> tuple[float, ...]:
    if isinstance(key, tuple):
        return tuple(map(_check_number, key))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return (_check_number(key),)


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
