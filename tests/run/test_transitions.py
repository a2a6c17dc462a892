"""A job's state is written by a few functions, along the table; tests find all who write it, in code and in runs."""

import ast
import re
import types
from collections.abc import Iterator
from typing import Any
import pytest
from trioflow import AbstractJob, Job, JobState, Scheduler
from trioflow._core.base import _states
from trioflow._core.base._states import TRANSITIONS
from ..bodies import fail_now
from ..conftest import Virtual
from ..places import PACKAGE
from ..transitions import WRITERS, CheckedState, IllegalStep


def writers_in(node: ast.AST, qualified: str = "") -> Iterator[str]:
    """Yield the qualified name of the function around each statement that writes or deletes an attribute `_state`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from writers_in(child, f"{qualified}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from writers_in(child, f"{qualified}{child.name}.<locals>.")
        else:
            if is_write(child):
                yield qualified.removesuffix(".").removesuffix(".<locals>")
            yield from writers_in(child, qualified)


def is_write(node: ast.AST) -> bool:
    """Return whether this is `x._state = ...` in any form, or a call like `setattr(x, "_state", ...)`."""
    if isinstance(node, ast.Attribute):
        return node.attr == "_state" and not isinstance(node.ctx, ast.Load)
    return (
        isinstance(node, ast.Call)
        and any(
            isinstance(argument, ast.Constant) and argument.value == "_state"
            for argument in node.args
        )
        and ast.unparse(node.func).endswith(
            ("setattr", "__setattr__", "delattr", "__delattr__")
        )
    )


def test_only_the_listed_functions_of_the_package_write_job_states() -> None:
    found = {
        (".".join(path.relative_to(PACKAGE).with_suffix("").parts), function)
        for path in PACKAGE.rglob("*.py")
        for text in [path.read_text(encoding="utf-8")]
        if re.search(r"\b_state\b", text)
        for function in writers_in(ast.parse(text))
    }
    assert found == WRITERS.keys()


def test_the_module_of_states_names_each_function_that_writes_them() -> None:
    named = re.findall(r"`(\w+\.\w+)`", _states.__doc__ or "")
    writers = [
        name if "." in name else f"{module.rpartition('.')[2]}.{name}"
        for module, name in WRITERS
    ]
    assert sorted(named) == sorted(writers)


@pytest.mark.parametrize(
    "code",
    ["job._state = new", "a, job._state = 1, new", "del job._state", "for job._state in new: pass",
     'setattr(job, "_state", new)', 'object.__setattr__(job, "_state", new)', "job._state: str = new"],
)  # fmt: skip
def test_search_finds_each_way_to_write_a_state(code: str) -> None:
    assert list(writers_in(ast.parse(code))) == [""]
    assert list(
        writers_in(ast.parse(f"class A:\n  def f():\n    def g():\n      {code}"))
    ) == ["A.f.<locals>.g"]


def test_a_state_written_by_another_function_is_recorded_with_its_name(
    checked_states: CheckedState,
) -> None:
    elsewhere = types.ModuleType("trioflow.view._elsewhere")
    exec("def write(job, state): job._state = state", vars(elsewhere))
    checked_states.writers.clear()
    elsewhere.write(AbstractJob(), JobState.SCHEDULED)
    assert checked_states.writers - WRITERS.keys() == {("view._elsewhere", "write")}


@pytest.mark.parametrize("old", JobState)
def test_only_transitions_of_the_table_are_allowed(
    checked_states: CheckedState, old: JobState
) -> None:
    for new in JobState:
        job: AbstractJob[Any] = AbstractJob(label="mine")
        checked_states.slot.__set__(job, old)
        if new in TRANSITIONS[old].values():
            job._state = new
            assert job.state is new
        else:
            with pytest.raises(IllegalStep, match=rf"'mine': {old} -> {new}"):
                job._state = new
            assert job.state is old
            assert len(checked_states.illegal) == 1
            checked_states.illegal.clear()


def test_an_assertion_that_fails_in_a_job_is_recorded(
    checked_states: CheckedState, virtual: Virtual
) -> None:
    assert not virtual(
        Scheduler(
            Job(fail_now, AssertionError("one is not two"), label="mine"), Job(fail_now)
        ).co_run
    )
    assert checked_states.assertions == ["'mine': one is not two"]
    checked_states.assertions.clear()


@pytest.mark.parametrize("old", JobState)
def test_reset_takes_any_job_back_to_idle(
    checked_states: CheckedState, old: JobState
) -> None:
    job: AbstractJob[Any] = AbstractJob()
    checked_states.slot.__set__(job, old)
    job._reset()
    assert job.state is JobState.IDLE
