"""How the command finds the scheduler in a user's file, and calls a function that builds one."""

import datetime
import pickle
import re
import sys
from pathlib import Path
import anyio
import pytest
from trioflow import Job, Scheduler
from trioflow.cli import _scenario
from ..places import ROOT
from .command_line import labels, refused, trioflow, unchanged_process, written


def listed(*arguments: str) -> list[str]:
    """Return the labels of the jobs in the scheduler that is found."""
    done = trioflow("list", *arguments)
    assert done.exit_code == 0, done.stderr
    return labels(done.stdout)


# --- which scheduler
def test_only_scheduler_of_a_file_is_the_default(tmp_path: Path) -> None:
    assert listed(written(tmp_path, "whatever = Scheduler(Job(work, label='a'))")) == [
        "a"
    ]


def test_the_only_outermost_scheduler_is_the_default(tmp_path: Path) -> None:
    """Without NAME, the only outermost scheduler is used, even if it has two names; nested ones are no candidates."""
    code = """
    inner = Scheduler(Job(work, label="a"), label="inner")
    outer = same = Scheduler(inner, label="outer")
    """
    assert listed(written(tmp_path, code)) == ["inner", "a"]


SEVERAL = """
first = Scheduler(Job(work, label="a"))
scenario = Scheduler(Job(work, label="b"))
inner = Scheduler(Job(work, label="c"), label="inner")
last = Scheduler(inner, label="last")
def made():
    return Scheduler(Job(work, label="d"))
"""


def test_of_several_schedulers_the_one_named_scenario_is_the_default(
    tmp_path: Path,
) -> None:
    assert listed(written(tmp_path, SEVERAL)) == ["b"]


@pytest.mark.parametrize(
    ("name", "found"),
    [("first", "a"), ("inner", "c"), ("made", "d"), ("scenario", "b")],
)
def test_name_after_the_colon_selects_a_scheduler_or_a_function(
    tmp_path: Path, name: str, found: str
) -> None:
    """In `FILE:NAME`, NAME is any global scheduler, nested ones included, or a function that returns one."""
    assert listed(f"{written(tmp_path, SEVERAL)}:{name}") == [found]


def test_several_schedulers_without_one_named_scenario_are_an_error(
    tmp_path: Path,
) -> None:
    file = written(tmp_path, SEVERAL.replace("scenario", "middle"))
    assert [line.strip() for line in refused("list", file).splitlines() if line.startswith("  ")] == [
        f"{file}:first", f"{file}:middle", f"{file}:last"
    ]  # fmt: skip


def test_function_named_scenario_is_the_default_without_a_global_scheduler(
    tmp_path: Path,
) -> None:
    assert listed(
        written(tmp_path, "def scenario():\n    return Scheduler(Job(work, label='a'))")
    ) == ["a"]


def test_scenario_may_be_any_callable_object(tmp_path: Path) -> None:
    code = "import functools\ndef make(label):\n    return Scheduler(Job(work, label=label))\n"
    assert listed(
        written(tmp_path, code + "scenario = functools.partial(make, 'a')")
    ) == ["a"]


def test_callable_without_a_readable_signature_is_a_usage_error(tmp_path: Path) -> None:
    """A callable whose parameters cannot be read, such as `type`, cannot build the scheduler."""
    assert "cannot be read" in refused("list", written(tmp_path, "scenario = type"))


def test_name_of_a_file_may_contain_a_colon(tmp_path: Path) -> None:
    file = written(tmp_path, SEVERAL, "odd:name.py")
    assert listed(file) == ["b"]
    assert listed(f"{file}:first") == ["a"]


def test_scheduler_imported_from_another_file_of_the_directory_is_found(
    tmp_path: Path,
) -> None:
    beside = written(tmp_path, "here = Scheduler(Job(work, label='a'))", "beside.py")
    assert listed(beside) == ["a"]
    file = written(tmp_path, "import sys\nfrom beside import here\nfirst = sys.path[0]")
    assert listed(file) == ["a"]
    with unchanged_process():
        assert _scenario.load_file(Path(file)).first == str(tmp_path)


def test_a_name_that_is_unknown_comes_with_those_of_the_file(tmp_path: Path) -> None:
    """Its own schedulers, once each, and its own functions, without private and imported ones."""
    code = """
    from os.path import join
    from helper_of_names import helper
    def _private(): ...
    def make(): ...
    first = second = Scheduler()
    scenario = Scheduler(inner := Scheduler())
    third = scenario
    number = 5
    """
    (tmp_path / "helper_of_names.py").write_text("def helper(): ...")
    file = written(tmp_path, code)
    names = "first, inner, scenario, work, fail, make"
    said = refused("list", f"{file}:zzzz")
    assert said.splitlines()[-1].endswith(
        f"{file} has no 'zzzz'; its schedulers and functions: {names}"
    )
    said = refused("list", f"{file}:number")
    assert "it is of type int" in said


def test_a_linked_file_imports_what_is_beside_its_target(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "beside_target.py").touch()
    target = written(tmp_path / "real", "import beside_target\nx = Scheduler()")
    (tmp_path / "link.v1.py").symlink_to(target)
    with unchanged_process():
        module = _scenario.load_file(tmp_path / "link.v1.py")
        assert module.__name__ == "link_v1"
        assert sys.path[0] == str(tmp_path / "real")


def test_a_window_of_a_whole_run_is_a_limiter_if_groups_share_it(
    tmp_path: Path,
) -> None:
    job = Job(anyio.sleep, 0)
    flat, nested = Scheduler(job), Scheduler(Scheduler(label="inner"))
    for slots in (None, 0, 1, 5):
        assert _scenario.make_window(flat, slots) == slots
        window = _scenario.make_window(nested, slots)
        if slots:
            assert isinstance(window, anyio.CapacityLimiter)
            assert window.total_tokens == slots
        else:
            assert window == slots


# --- loading of the file
def test_users_file_is_not_loaded_as_main(tmp_path: Path) -> None:
    """The user's file is not loaded as `__main__`, and its `sys.argv` has no options of the command."""
    file = written(
        tmp_path,
        "import sys\nassert __name__ == 'flow' and len(sys.argv) == 1\nscenario = Scheduler()",
    )
    assert trioflow("list", file).exit_code == 0


def test_functions_of_the_users_file_can_be_pickled(tmp_path: Path) -> None:
    """Functions of the user's file can be pickled, because its module can be imported by name."""
    with unchanged_process():
        module = _scenario.load_file(Path(written(tmp_path, "")))
        assert pickle.loads(pickle.dumps(module.work)) is module.work


def test_scenario_file_named_like_an_imported_module_does_not_replace_it(
    tmp_path: Path,
) -> None:
    """A scenario file named json.py is loaded, and `sys.modules` keeps the module of the standard library."""
    with unchanged_process():
        module = _scenario.load_file(Path(written(tmp_path, "", "json.py")))
        assert sys.modules["json"] is not module


def test_file_that_is_loaded_again_keeps_the_name_of_its_module(tmp_path: Path) -> None:
    """A file that is loaded twice in one process has one name, by which a journal knows its functions."""
    with unchanged_process():
        file = Path(written(tmp_path, "", "loaded_twice.py"))
        assert [_scenario.load_file(file).__name__ for _ in range(2)] == [
            "loaded_twice"
        ] * 2


def test_file_that_changes_within_a_second_is_compiled_again(tmp_path: Path) -> None:
    for label in "abc":
        assert listed(
            written(tmp_path, f"x = Scheduler(Job(work, label='{label}'))")
        ) == [label]


# --- --set

FUNCTION = """
import datetime
from pathlib import Path
from typing import *
def scenario({parameters}):
    values = {{key: value for key, value in locals().items()}}
    return Scheduler(label=repr(values))
"""

CONVERTED = [
    ("n: int", ["n=5"], {"n": 5}),
    ("n: float = 1", ["n=2"], {"n": 2.0}),
    ("n=1", ["n=5"], {"n": 5}),
    ("n=1.5", [], {"n": 1.5}),
    ("flag: bool", ["flag=true"], {"flag": True}),
    ("flag=True", ["flag=False"], {"flag": False}),
    ("name", ["name=a=b"], {"name": "a=b"}),
    ("name=None", ["name=5"], {"name": "5"}),
    ("name: str", ["name=[1]"], {"name": "[1]"}),
    ("n: Optional[int] = 3", ["n=5"], {"n": 5}),
    ("n: int | None = 3", ["n=null"], {"n": None}),
    ("day: datetime.date", ["day=2026-01-02"], {"day": datetime.date(2026, 1, 2)}),
    ("hosts: list[str]", ['hosts=["a", "b,c"]'], {"hosts": ["a", "b,c"]}),
    ("ns: tuple[int, ...] = ()", ["ns=[1, 2]"], {"ns": (1, 2)}),
    ("ns=[]", ["ns=[1]"], {"ns": [1]}),
    ("table: dict[str, float]", ['table={"a": 1}'], {"table": {"a": 1.0}}),
    ("a, /, b=2, *, c: int = 3", ["a=1", "c=4"], {"a": "1", "b": 2, "c": 4}),
    ("a=1, **more", ["b=2"], {"a": 1, "more": {"b": "2"}}),
    ("a=1, *rest", [], {"a": 1, "rest": ()}),
    ("a=None", ["a=1"], {"a": "1"}),
    ("a: dict", ['a={"b": [1]}'], {"a": {"b": [1]}}),
    ("b, **more", ["b=1", "c=x=y"], {"b": "1", "more": {"c": "x=y"}}),
    ("n: 'Unknown' = 3", ["n=4"], {"n": 4}),
]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("parameters", "settings", "values"),
    CONVERTED,
    ids=[f"{p} {s}" for p, s, _ in CONVERTED],
)
def test_set_values_are_converted_to_the_type_of_the_parameter(
    tmp_path: Path, parameters: str, settings: list[str], values: dict[str, object]
) -> None:
    """The annotation of a parameter, or else its default, sets the type of `--set`; a list or a dict is JSON."""
    file = written(tmp_path, FUNCTION.format(parameters=parameters))
    with unchanged_process():
        made = _scenario.build_scheduler(Path(file), None, tuple(settings))
    assert made.label == repr(values)


WRONG = [
    ("n: int", [], "'n'.*--set n="),
    ("n: int", ["n"], "name=value"),
    (
        "n: int",
        ["n=five"],
        "--set n=five: Expected `int`, got `str`; give a text, a number",
    ),
    ("n: int", ["n=1", "n=2"], "n= is given twice"),
    ("number: int", ["numer=2"], r"numer=: unknown parameter; do you mean number=\?"),
    ("n: int = 1", ["m=2"], "m=: unknown parameter; its parameters: n"),
    (
        "day: datetime.date",
        ["day=2026-13-02"],
        "--set day=2026-13-02: Invalid RFC3339 encoded date",
    ),
    (
        "ns: list[int]",
        ["ns=1,2"],
        "--set ns=1,2: Expected `array`, got `str`; .* a list or dict as JSON",
    ),
    ("ns: list[int]", ['ns=[1, "b"]'], r"Expected `int`, got `str` - at `\$\[1\]`"),
    ("ns: list", ["ns=" + "[" * 99999], "--set ns="),
    ("path: Path", ["path=a"], "--set path=a: Expected `Path`, got `str`"),
    ("n: int", ["n=\x1b[2J"], r"n=\\x1b\[2J"),
]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("parameters", "settings", "message"),
    WRONG,
    ids=[f"{p} {s}"[:40] for p, s, _ in WRONG],
)
def test_invalid_set_values_are_rejected(
    tmp_path: Path, parameters: str, settings: list[str], message: str
) -> None:
    words = [word for one in settings for word in ("--set", one)]
    said = refused(
        "list", written(tmp_path, FUNCTION.format(parameters=parameters)), *words
    )
    assert re.search(message, said), said


def test_set_is_rejected_for_a_global_scheduler(tmp_path: Path) -> None:
    assert "'s' is a Scheduler" in refused(
        "list", written(tmp_path, "x = Scheduler(label='s')"), "--set", "a=1"
    )


def test_a_file_has_only_its_own_future_imports(tmp_path: Path) -> None:
    """As under `python FILE`, an annotation is the object that it names: it was text, as in trioflow's own modules."""
    file = tmp_path / "flow.py"
    file.write_text("""
import anyio
from trioflow import Job, Scheduler
def kinds(number: int) -> None: ...
scheduler = Scheduler(Job(anyio.sleep, 0, label=kinds.__annotations__["number"].__name__))
""")
    assert listed(str(file)) == ["int"]


# --- while the command loads a user's file, nothing runs: a run is refused where it would begin

FLOW = "flow = Scheduler(Job(work), label='flow')\n"
"""`work` prints "works"."""
DOORS = {
    "run()": "flow.run()",
    "run() on asyncio": "flow.run(backend='asyncio')",
    "asyncio.run": "import asyncio\nasyncio.run(flow.co_run())",
    "trio.run": "import trio\ntrio.run(flow.co_run)",
    "anyio.run": "anyio.run(flow.co_run)",
    "virtual time": "from trioflow.testing import run_virtual\nrun_virtual(flow.co_run)",
    "async main": "async def main():\n    print(await flow.co_run(), 'works')\nanyio.run(main)",
    "function": "def main():\n    return flow.run()\nmain()",
    "nursery": """
import trio
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow.co_run)
trio.run(main)""",
    "async with on trio": "async def main():\n    async with flow:\n        print('works')\nanyio.run(main)",
    "async with on asyncio": """
import asyncio
async def main():
    async with flow:
        print('works')
asyncio.run(main())""",
}
"""Programs that run `flow` by their last line, when they are loaded."""
HIDDEN_DOORS = {
    "except": "try:\n    flow.run()\nexcept Exception:\n    pass\nprint('works')",
    "thread": "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor(1).submit(flow.run).result()",
    "compat": "from trioflow.compat.asynciojobs import Job, Scheduler\nScheduler(Job(work()), label='flow').run()",
}
COMMANDS = {
    "run": ["--no-monitor"],
    "list": [],
    "graph": ["-o", "flow.dot"],
    "check": [],
}


@pytest.mark.parametrize(
    ("command", "door"),
    [*((name, "run()") for name in COMMANDS), *(("check", name) for name in DOORS)],
)
def test_a_run_is_refused_where_it_would_begin(
    tmp_path: Path, door: str, command: str
) -> None:
    file = written(tmp_path, FLOW + DOORS[door])
    said = refused(command, file, *COMMANDS[command])
    source = Path(file).read_text("utf-8").splitlines()
    assert f"{file}, line {len(source)}: 'flow' would run" in said
    assert f'if __name__ == "__main__":\n      {source[-1]}\n' in said


@pytest.mark.parametrize("door", HIDDEN_DOORS)
def test_a_refused_run_is_reported_whatever_the_file_does_about_it(
    tmp_path: Path, door: str
) -> None:
    assert "'flow' would run" in refused(
        "check", written(tmp_path, FLOW + HIDDEN_DOORS[door])
    )


def test_a_module_that_the_file_imports_runs_nothing(tmp_path: Path) -> None:
    module = Path(written(tmp_path, FLOW + "flow.run()", "library_of_flow.py"))
    said = refused("check", written(tmp_path, "from library_of_flow import flow"))
    assert (
        f"{module}, line {len(module.read_text('utf-8').splitlines())}: 'flow' would run"
        in said
    )


def test_a_function_that_builds_the_scenario_does_not_run_it(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "def scenario():\n    flow = Scheduler(Job(work), label='flow')\n    flow.run()\n",
    )
    said = refused("run", file)
    number = len(Path(file).read_text("utf-8").splitlines())
    assert f"{file}, line {number}: 'flow' would run" in said
    assert "Return the Scheduler" in said


def test_a_file_may_simulate_its_scheduler_while_it_is_loaded(tmp_path: Path) -> None:
    done = trioflow(
        "list", written(tmp_path, FLOW + "assert simulate(flow).makespan == 1.0")
    )
    assert labels(done.stdout) == ["work()"]


def test_runs_begin_again_after_a_file_was_rejected(tmp_path: Path) -> None:
    trioflow("check", written(tmp_path, FLOW + "flow.run()", "wrong.py"))
    done = trioflow("run", "--no-monitor", written(tmp_path, FLOW))
    assert done.exit_code == 0
    assert "works" in done.stdout


@pytest.mark.parametrize("command", ["check", "list", "graph"])
def test_loading_program_of_readme_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text("utf-8")
    program = next(
        block
        for block in re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)
        if "publish" in block
    )
    Path("weather.py").write_text(
        program.replace('"echo", "published"', '"touch", "published"'), "utf-8"
    )
    done = trioflow(command, "weather.py", *COMMANDS[command])
    assert done.exit_code == 0, done.stderr
    assert "publish" in done.stdout or command != "list"
    assert not Path("published").exists()
    assert not Path("weather.db").exists()
