"""Public names: exported once, documented, and shown with the module that users import them from."""

import importlib.metadata
import inspect
import subprocess
import sys
import types
import typing
from typing import Any
import anyio
import click
import pytest
import trioflow
import trioflow.abc
import trioflow.testing
from trioflow._core.job import _errors
from trioflow.cli._commands import COMMANDS, command


def public(module: types.ModuleType) -> dict[str, Any]:
    values = {
        name: getattr(module, name) for name in dir(module) if not name.startswith("_")
    }  # late ones as well
    return {
        name: value
        for name, value in values.items()
        if not isinstance(value, types.ModuleType)
    }


NAMES = [
    (module, name)
    for module in (trioflow, trioflow.abc)
    for name, value in public(module).items()
    if typing.get_origin(value) is not typing.Literal  # names to choose from
]


def test_each_name_is_exported_once() -> None:
    """Each name is exported once, except for AbstractJob, also in `trioflow.abc`."""
    places: dict[int, list[str]] = {}
    for module, name in NAMES:
        places.setdefault(id(getattr(module, name)), []).append(
            f"{module.__name__}.{name}"
        )
    assert [found for found in places.values() if len(found) > 1] == [
        ["trioflow.AbstractJob", "trioflow.abc.AbstractJob"]
    ]


def test_each_name_has_a_docstring() -> None:
    """Each exported name has a docstring, and so has each public method and property of an exported class."""
    silent = []
    for module, name in NAMES:
        thing = getattr(module, name)
        if not inspect.getdoc(thing):
            silent.append(name)
        for base in thing.__mro__ if isinstance(thing, type) else ():
            for attribute, value in (
                vars(base).items() if base.__module__.startswith("trioflow") else ()
            ):
                is_public = not attribute.startswith("_") and isinstance(
                    value, (types.FunctionType, property)
                )
                if is_public and not inspect.getdoc(value):
                    silent.append(f"{base.__name__}.{attribute}")
    assert silent == []


def test_each_name_has_the_module_that_users_import_it_from() -> None:
    """`__module__`, shown by tracebacks, reprs and pickles, is a module that users know."""
    of_users = public(trioflow)
    for module, name in NAMES:
        thing = getattr(module, name)
        assert thing.__module__ == (
            "trioflow" if name in of_users else "trioflow.abc"
        ), name
        assert getattr(sys.modules[thing.__module__], thing.__name__) is thing, name


def test_all_lists_every_public_name_in_order() -> None:
    """`__all__` is sorted, and has all public names that `dir()` shows, also late ones, but no modules."""
    assert trioflow.__all__ == sorted(public(trioflow))


def test_a_star_import_brings_all_public_names() -> None:
    names: dict[str, Any] = {}
    exec("from trioflow import *", names)
    del names["__builtins__"]
    assert names == public(trioflow)


@pytest.fixture(scope="module")
def star_import() -> subprocess.CompletedProcess[str]:
    """A program without the extras that imports all names, and prints the event loops that this has loaded."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['click', 'rich', 'dask', 'msgspec'])); from trioflow import *; "
        "print({'asyncio', 'trio'} & sys.modules.keys())"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_a_star_import_needs_no_extra(
    star_import: subprocess.CompletedProcess[str],
) -> None:
    assert star_import.returncode == 0, star_import.stderr


def test_the_version_is_that_of_the_installed_package() -> None:
    assert trioflow.__version__ == importlib.metadata.version("trioflow")


def test_an_unknown_name_raises_an_attribute_error() -> None:
    """A name that `trioflow` does not have, although it imports some at their first access, raises as usual."""
    with pytest.raises(AttributeError, match="no attribute 'Trance'"):
        trioflow.Trance  # type: ignore[attr-defined]  # noqa: B018


def test_no_heavy_module_is_loaded_before_it_is_needed() -> None:
    """`import trioflow` imports nothing that only views, commands, or one backend need, and no rarely used name.
    `trioflow --help` needs no view, no drawing and no backend. A plain batch needs no trio, no view, no journal, no ssh
    and none of the slower modules of the library."""
    imports = {"rich", "inspect", "click", "html", "xml", "asyncio", "trio", "wcwidth", "subprocess", "anyio", "socket",
               "multiprocessing", "graphviz", "dataclasses", "logging", "traceback", "trioflow.view.trace"}  # fmt: skip
    helps = {"rich", "graphviz", "html", "asyncio", "trio", "wcwidth", "subprocess", "anyio",
             "trioflow.view.monitor._monitor", "trioflow.cli._run", "trioflow.cli.batch._batch_command"}  # fmt: skip
    batch = {
        "trio", "rich", "graphviz", "wcwidth", "dask", "numpy", "msgspec", "sqlite3", "json", "html", "xml", "csv",
        "multiprocessing", "concurrent.futures.process", "email", "urllib.request", "http", "pathlib", "fractions",
        "decimal", "difflib", "glob", "argparse", "unittest",
        "trioflow.view.monitor._monitor", "trioflow.view.trace._trace", "trioflow.view.text._listing",
        "trioflow.simulation._simulate", "trioflow.journal._journal", "trioflow.jobs.ssh._ssh_job",
        "trioflow.jobs.process._process_job", "trioflow.testing",
    }  # fmt: skip
    code = f"""
import sys, trioflow
print("found", sorted({imports} & sys.modules.keys()))
import trioflow.cli
for words, heavy in (["--help"], {helps}), (["batch", "true", "{{}}", ":::", "1"], {batch}):
    sys.argv = ["trioflow", *words]
    try:
        trioflow.cli.main()
    except SystemExit as end:
        print("found", end.code or 0, sorted(heavy & sys.modules.keys()))
"""
    found: list[str] = []
    # A test beside this one may ask all programs of the machine how far they are: a batch loads what it answers with.
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        found = [line for line in done.stdout.splitlines() if line.startswith("found")]
        if found == ["found []", "found 0 []", "found 0 []"]:
            return
    pytest.fail(f"each time: {found}")


def test_the_import_of_all_names_loads_no_event_loop(
    star_import: subprocess.CompletedProcess[str],
) -> None:
    """A program on trio that writes `from trioflow import *` does without asyncio."""
    assert star_import.stdout == "set()\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_the_command_has_the_summary_of_each_subcommand(name: str) -> None:
    subcommand = command.get_command(click.Context(command), name)
    assert subcommand is not None
    assert " ".join((subcommand.help or "").split()).startswith(
        COMMANDS[name][2].removesuffix(".")
    )


def test_all_own_errors_are_exported() -> None:
    classes = [
        value
        for value in vars(_errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    own = {error for error in classes if error.__module__.startswith("trioflow")}
    assert own <= set(public(trioflow).values())
    assert all(issubclass(error, (trioflow.TrioflowError, Warning)) for error in own)


def test_unknown_option_of_a_scheduler_gets_a_hint() -> None:
    unknown: typing.Any = {"job_window": 3}
    with pytest.raises(
        TypeError,
        match="'home': a scheduler has no option 'job_window'; did you mean jobs_window",
    ):
        trioflow.Scheduler(label="home", **unknown)
    unknown = {"colour": "red"}
    with pytest.raises(
        TypeError, match=r"no option .colour.; the options are label, jobs_window, pool"
    ):
        trioflow.Scheduler(**unknown)


def test_unknown_option_of_a_run_gets_a_hint(backend: typing.Any) -> None:
    unknown: typing.Any = {"job_window": 3}
    scheduler = trioflow.Scheduler(label="home")
    with pytest.raises(
        TypeError,
        match=r"'home': run\(\) has no option 'job_window'; did you mean jobs_window",
    ):
        scheduler.run(backend=backend, **unknown)

    async def main() -> None:
        with pytest.raises(
            TypeError,
            match=r"co_run\(\) has no option 'colour'; the options are timeout, jobs_window, [^_]*$",
        ):
            await scheduler.co_run(**typing.cast(typing.Any, {"colour": "red"}))

    anyio.run(main, backend=backend)
    assert scheduler.stop_reason is None
