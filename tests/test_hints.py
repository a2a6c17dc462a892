"""Names and forms of other libraries: each error says what to write here."""

import re
import traceback
from pathlib import Path
from typing import Any
import pytest
import trioflow
from trioflow import (
    AbstractJob,
    CommandJob,
    Job,
    Pool,
    Pull,
    Rate,
    Scheduler,
    SshJob,
    SshNode,
    SshNodes,
    _hints,
)
from .bodies import give_now
from .cli import command_line

OPTIONS = AbstractJob._declared_options | Scheduler._declared_options
COMMANDS_ALONE = ("on_succeeded",)


@pytest.mark.parametrize("name", _hints.OPTION_ALIASES)
def test_an_option_of_another_library_names_the_option_here(name: str) -> None:
    option = _hints.OPTION_ALIASES[name]
    if option in COMMANDS_ALONE:
        with pytest.raises(
            TypeError, match=rf"no option {name!r}; did you mean {option}\?"
        ):
            CommandJob(["true"], **{name: 1})
        option = _hints.OPTION_REPLACEMENTS[option]
    else:
        assert option in OPTIONS
    with pytest.raises(
        TypeError, match=rf"no option {name!r}; did you mean {option}\?"
    ):
        Scheduler(**{name: 1})


@pytest.mark.parametrize("name", _hints.OPTION_HINTS)
def test_an_option_without_a_counterpart_says_what_to_do(name: str) -> None:
    with pytest.raises(
        TypeError, match=re.escape(f"no option {name!r}; {_hints.OPTION_HINTS[name]}")
    ):
        Scheduler(**{name: 1})


@pytest.mark.parametrize("name", _hints.ATTRIBUTE_HINTS)
def test_an_attribute_of_a_task_or_future_names_the_attribute_here(name: str) -> None:
    jobs: list[AbstractJob[Any]] = [Job(give_now, 1), CommandJob(["true"])]
    if name not in ("run", "start"):
        jobs.append(Scheduler())
    for job in jobs:
        assert not hasattr(job, name)
        assert name not in dir(job)
        with pytest.raises(
            AttributeError,
            match=re.escape(f"no attribute {name!r}: {_hints.ATTRIBUTE_HINTS[name]}"),
        ):
            getattr(job, name)
    for meant in re.findall(
        r"^(?:call|compare|read) (\w+)", _hints.ATTRIBUTE_HINTS[name]
    ):
        assert hasattr(Scheduler, meant)


@pytest.mark.parametrize("name", ["wait", "run_", "settle", "has_own_result"])
def test_no_private_name_is_suggested_for_an_unknown_attribute(name: str) -> None:
    """Python suggests names of `dir()`, before 3.13 private ones, too."""
    for job in (Job(give_now, 1), Scheduler(), CommandJob(["true"])):
        with pytest.raises(AttributeError) as caught:
            getattr(job, name)
        shown = "".join(traceback.format_exception_only(caught.value))
        assert not re.search(r"Did you mean:? '?_", shown)
        assert not [each for each in dir(job) if re.match("_[^_]", each)]


def test_an_order_by_an_operator_names_the_option() -> None:
    first: Any = Job(give_now, 1)
    with pytest.raises(AttributeError, match=r"write: Job\(f, required=job\)"):
        first >> Job(give_now, 2)


def test_errors_of_python_name_the_class_that_users_write() -> None:
    scheduler: Any = Scheduler()
    for call in (scheduler.pause, scheduler.cancel, scheduler.close, scheduler.co_run):
        with pytest.raises(TypeError, match=r"^Scheduler\.\w+\(\) takes 1 positional"):
            call(1)


HOME_PATHS: list[Any] = [
    lambda path: Job(give_now, 1, reads=path),
    lambda path: Job(give_now, 1, writes=["x", Path(path)]),
    lambda path: CommandJob(["true"], stdout=path),
    lambda path: Scheduler(journal=path),
    lambda path: trioflow.Journal(path),
    lambda path: trioflow.JUnit(path),
]


@pytest.mark.parametrize("place", range(len(HOME_PATHS)))
def test_a_path_that_only_a_shell_expands_is_refused(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory with the name "~" was made for it, without a word."""
    monkeypatch.setenv("DATA", "/data")
    for path in ("~/x", "$DATA/x", "in/${DATA}"):
        with pytest.raises(ValueError, match="no shell expands '~' or '\\$NAME' here"):
            HOME_PATHS[place](path)
    for path in ("a~", "$UNSET_NAME/x", "~ /x"):
        HOME_PATHS[place](path)


def test_a_directory_on_a_node_may_be_in_its_home() -> None:
    node = SshNode("node", config="~/config", identity=Path("~/key"))
    assert SshJob(node, ["make", Pull("~/log", to=".")], cwd="~/src").node is node


@pytest.mark.parametrize("word", ["~/no", "$HOME/no", "*.csv", "in/*", "|"])
def test_a_failed_command_with_a_word_for_a_shell_says_so(
    word: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not Scheduler(CommandJob(["false", "a*b", "-name", "$1"])).run()
    assert "shell=True" not in caplog.text
    assert not Scheduler(CommandJob(["false", "x", word])).run()
    assert f"({word!r} is an argument here; for a shell, give one" in caplog.text


def test_a_kind_may_use_the_names_of_attributes_that_jobs_lack() -> None:
    """A class of jobs may define attributes of these names: in the class, in its objects, and as methods."""

    class Own(AbstractJob[None]):
        exception = "a word"

        def __init__(self) -> None:
            super().__init__()
            self.status = 1

        def done(self) -> int:
            return 2

    own = Own()
    assert (own.exception, own.status, own.done()) == ("a word", 1, 2)
    assert {"exception", "status", "done"} <= {*dir(own)}


def test_a_job_among_the_needs_is_told_where_an_order_is_given() -> None:
    with pytest.raises(
        TypeError, match=r"needs=.* of .*: give a dict .*; for an order, give required="
    ):
        Job(give_now, 1, needs=[Job(give_now, 2)])  # type: ignore[arg-type]


FORMS: list[tuple[Any, str]] = [
    (lambda: CommandJob("ls", "-l"), "CommandJob"),  # type: ignore[call-arg]
    (lambda: SshJob(SshNode("node"), "ls", "-l"), "SshJob"),  # type: ignore[call-arg]
    (lambda: trioflow.CommandService("server", "-v"), "CommandService"),  # type: ignore[call-arg]
    (lambda: trioflow.Answer("deploy?", ["yes"]), "Answer"),  # type: ignore[call-overload]
    (lambda: Rate(60), "Rate"),  # type: ignore[arg-type,call-arg]
    (lambda: Pool(8), "Pool"),  # type: ignore[call-arg]
    (lambda: trioflow.Throttled(), "Throttled"),  # type: ignore[call-arg]
    (lambda: Scheduler().cancel(Job(give_now, 1)), "Scheduler.cancel"),  # type: ignore[call-arg]
    (lambda: Scheduler().explain(), "Scheduler.explain"),  # type: ignore[call-arg]
    (lambda: trioflow.Retry(attempts=3), "Retry"),  # type: ignore[call-arg]
    (lambda: trioflow.Retry(3, backoff=2), "Retry"),  # type: ignore[call-arg]
    (lambda: trioflow.Budget(usd=3), "Budget"),  # type: ignore[call-arg]
    (lambda: trioflow.PerKey(host=2), "PerKey"),  # type: ignore[call-arg]
    (lambda: trioflow.PerKey(2, pause=1), "PerKey"),  # type: ignore[call-arg]
    (lambda: trioflow.Adaptive(max=5), "Adaptive"),  # type: ignore[call-arg]
    (lambda: Job(give_now, 1).requires(succeeded=True), "AbstractJob.requires"),  # type: ignore[call-arg]
    (lambda: Scheduler().results(Job(give_now, 1)), "Scheduler.results"),  # type: ignore[call-arg]
]


def test_arguments_that_do_not_fit_get_the_form_that_was_meant() -> None:
    for use, name in FORMS:
        with pytest.raises(TypeError, match=re.escape(f"; {_hints.CALL_HINTS[name]}")):
            use()
    assert {name for _, name in FORMS} == {*_hints.CALL_HINTS}


class Int64:
    """A whole number that is no `int`, as those of NumPy."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def test_options_take_whole_numbers_of_other_libraries() -> None:
    """Each option that is a whole number or an amount takes one of NumPy's, and keeps it as an `int`."""
    two: Any = Int64(2)
    job = Job(give_now, 1, retry=two, priority=two, needs={"cpu": two}, label="job")
    scheduler = Scheduler(
        job,
        jobs_window=two,
        pool=Pool(cpu=two, usd=trioflow.Budget(two), api=Rate(requests=two, per=1)),
    )
    assert isinstance(job.retry, trioflow.Retry)
    kept = job.retry.times, job.priority, job.needs["cpu"], scheduler.jobs_window
    assert [type(value) for value in kept] == [int] * 4
    made = (
        trioflow.Retry(two),
        trioflow.Adaptive(two, 8),
        trioflow.PerKey(two, sizes={"a": two}),
    )
    assert repr(made) == "(Retry(2), Adaptive(2, 8), PerKey(2, sizes={'a': 2}))"
    assert scheduler.run()


def test_a_name_that_is_not_alike_is_not_suggested() -> None:
    with pytest.raises(TypeError, match="no option 'jobserver'; the options are "):
        Scheduler(jobserver=True)
    with pytest.raises(TypeError, match="did you mean timeout"):
        Scheduler(timout=1)


def test_an_error_inside_of_a_call_is_left_alone() -> None:
    """A TypeError from inside of a call, about a value and not about the number of arguments, keeps its text."""
    with pytest.raises(TypeError) as caught:
        CommandJob(7)  # type: ignore[arg-type]
    assert _hints.CALL_HINTS["CommandJob"] not in str(caught.value)


def test_results_are_looked_up_by_job() -> None:
    scheduler = Scheduler(Job(give_now, 1))
    scheduler.run()
    assert scheduler.results() == {next(iter(scheduler)): 1}
    with pytest.raises(
        KeyError,
        match=r"no result for 0: results\(\) has the results of jobs that succeeded, by job",
    ):
        scheduler.results()[0]  # type: ignore[index]


@pytest.mark.parametrize("nodes", ["", " , ", Path("/dev/null")])
def test_a_text_or_a_file_without_a_node_is_an_error(nodes: Any) -> None:
    """A text or a file that names no node once succeeded, with nothing; a list that a program has made may be empty."""
    with pytest.raises(ValueError, match="names no node"):
        SshNodes(nodes)
    assert len(SshNodes([])) == 0


@pytest.mark.parametrize(("words", "hint"), [
    (("ssh", "--config", "x", "node", "--", "true"), "--ssh-config FILE is a configuration of ssh"),
    (("ssh", "--login", "x", "node", "--", "true"), "--username NAME is the user on the node"),
    (("batch", "--max-workers", "3", "true"), "-j N limits the jobs at once"),
    (("run", "--workers", "3", "flow.py"), "-j N limits the jobs at once"),
])  # fmt: skip
def test_an_option_of_another_command_names_the_option_here(
    words: tuple[str, ...], hint: str
) -> None:
    assert hint in command_line.trioflow(*words).stderr
    assert "-j" not in command_line.trioflow("compare", "--workers", "3").stderr


@pytest.mark.parametrize("name", _hints.SCHEDULER_ATTRIBUTE_HINTS)
def test_what_a_scheduler_is_not_names_what_it_has(name: str) -> None:
    scheduler = Scheduler()
    assert not hasattr(scheduler, name)
    assert name not in dir(scheduler)
    with pytest.raises(
        AttributeError, match=re.escape(_hints.SCHEDULER_ATTRIBUTE_HINTS[name])
    ):
        getattr(scheduler, name)


def test_a_scheduler_is_no_mapping_and_no_plain_context_manager() -> None:
    scheduler: Any = Scheduler()
    with pytest.raises(AttributeError, match="keep the job that add"):
        scheduler["a"]
    with pytest.raises(AttributeError, match="write: async with Scheduler"), scheduler:
        pass


RUN_WORDS = [
    (
        ["run", "flow.py", "--resume"],
        "No such option '--resume': --journal FILE continues where a run ended",
    ),
    (
        ["run", "flow.py", "--dry-run"],
        "No such option '--dry-run': trioflow check FILE finds errors without a run",
    ),
    (
        ["run", "flow.py", "--web", "8000"],
        "extra argument (8000); --web chooses the port, and prints the address",
    ),
    (
        ["graph", "flow.py", "flow.svg"],
        "extra argument (flow.svg); do you mean -o flow.svg?",
    ),
    (
        ["list", "run.db"],
        "'run.db' is no Python file, but a database: trioflow journal run.db shows a journal",
    ),
    (
        ["ssh", "uname"],
        "Missing option '-H' / '--hosts'; write: trioflow ssh -H node1,node2 uname",
    ),
]


@pytest.mark.parametrize(
    ("words", "text"), RUN_WORDS, ids=[" ".join(words) for words, _ in RUN_WORDS]
)
def test_a_wrong_line_of_a_shell_says_what_was_meant(
    words: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flow.py").write_text("from trioflow import Scheduler\nflow = Scheduler()\n")
    Scheduler(Job(give_now, 1), journal="run.db").run()
    done = command_line.trioflow(*words)
    assert done.exit_code in (2, 255)
    assert text in done.stderr
