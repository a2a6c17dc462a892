"""`Scheduler`: the engine's scheduler, together with the ways to look at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, Unpack

from ._core._live import LiveScheduler
from .view import _jupyter, _script
from .view._debrief import debrief
from .view._listing import Listing

if TYPE_CHECKING:
    import os

    from graphviz import Digraph

    from .view._pictures import DrawingOptions, GraphOptions


class Scheduler(LiveScheduler):
    """A set of jobs, each of which runs as soon as all that it requires has settled; it is itself a job.

    Build the graph, then `run()` it from plain code, or `await` its `co_run()` in a trio or asyncio program. Inside
    another scheduler it is a job like others: it takes one slot there, and runs its own jobs under its own limits.
    After a run it may be changed and run again; `close()` gives it up for good.

    Args:
        jobs_or_sequences: the first members, in this order: jobs, Sequences, None, or collections of these; `add` and
            `update` take more. Jobs that become ready together start in the order in which they were added.
        jobs_window: how many of its jobs may run at once: a positive whole number, a `CapacityLimiter` of trio or
            anyio, as the backend takes, which several schedulers may share, or None or 0 for no limit. Forever jobs
            take no slot; a nested scheduler takes one.
        timeout: seconds, more than 0, that a run may take; None or infinity for no limit. Then everything is
            cancelled: `run()` returns False, and a nested scheduler fails with `JobTimeout`.
        shutdown_timeout: seconds, more than 0, that the `co_shutdown` of all its jobs together may take at the end of
            each run; None or infinity for no limit. The default of 1 is enough to close connections.
        critical_jobs: whether its jobs are critical, those that do not say so themselves: the failure of one ends the
            run at once. None leaves it to the scheduler's own `critical`, and so on outwards.
        start_interval: seconds, 0 or more, that pass between two starts of its jobs, lest hundreds of them rush at
            one server.
        instruments: objects of `trioflow.abc.Instrument`, which watch each of its runs.
        options: those of every job; see `AbstractJob`. Where it is not nested, only `label` and `timeout` have a
            meaning, and `critical` as the default for its jobs.

    Raises:
        TypeError: something that is no job, or an option of the wrong type.
        ValueError: a number out of its range, or a job that stands in another scheduler already.

    Example:
        >>> async def double(number):
        ...     return 2 * number
        >>> first = Job(double, 21, label="first")
        >>> last = Job(double, 50, label="last", critical=True, required=first)
        >>> scheduler = Scheduler(first, last, jobs_window=10, timeout=60)
        >>> scheduler.run()
        True
        >>> last.result()
        100
        >>> scheduler.list()
        1    ☉ ☓    <Job `first`>
        2  ⚠ ☉ ☓    <Job `last`>  requires={1}

    """

    # `list` hides the builtin in the annotations below it: whatever is a list of jobs belongs into LiveScheduler.

    def list(self, file: TextIO | None = None, details: bool = False, silence_done_jobs: bool = False) -> None:
        """Print one line a job: number, symbols, `<Kind `label`>`, and the numbers of what it requires.

        The lines stand in topological order, those of jobs in a cycle behind the others. The four symbols are:

        - `⚠` it is critical;
        - `★` it has failed, `☉` it runs, or has run to another end;
        - its state: `⚐` idle, `⚑` scheduled, `↺` running, `☓` complete, `⊘` cancelled, `⊗` blocked, `⤼` skipped;
        - `∞` it is forever.

        Where the stream cannot encode them, they are `!`, `*` and `.`, the states `-w>xcbs`, and `8`. A nested
        scheduler has a line with the numbers of its entry jobs, then its jobs, indented, then a line with those of
        its exit jobs. Numbers run through all of it and are the same whatever is left out. A question mark stands
        before what is required but is not in the same scheduler: its number, or its label if it isn't listed.

        Args:
            file: a text stream; None for the standard output.
            details: shows results, as `[[ -> 42]]`, and exceptions, as `!! exception => KeyError: 'x'!!`, or with
                CRIT. EXC. for those of critical jobs; both shortened to 100 characters.
            silence_done_jobs: leaves out what is done, successfully or not: jobs whose `is_done()` is true, and nested
                schedulers together with all that is in them.

        Raises:
            TypeError: `file` is no stream.

        Example:
            >>> async def divide(a, b):
            ...     return a / b
            >>> nested = Scheduler(Job(divide, 4, 2, label="fine"), Job(divide, 4, 0, label="by zero"), label="nested")
            >>> scheduler = Scheduler(nested, Job(divide, 1, 1, label="last", required=nested))
            >>> scheduler.run()
            True
            >>> scheduler.list(details=True)
            1    ☉ ☓    > <Scheduler `nested`>  -> entries={2, 3}  [[ -> True]]
            2    ☉ ☓      <Job `fine`>          [[ -> 2.0]]
            3    ★ ☓      <Job `by zero`>       !! exception => ZeroDivisionError: division by zero!!
            1       end < <Scheduler `nested`>  exits={2, 3}
            4    ☉ ☓    <Job `last`>            requires={1}  [[ -> 1.0]]

        """
        stream = _script.stream(file, f"list() of {self.label!r}")
        script = _script.Script(getattr(stream, "encoding", None))
        text = Listing(self, script).text(details, silence_done_jobs)
        if text:
            print(text, file=stream)

    def listing(self, details: bool = False, silence_done_jobs: bool = False) -> str:
        """Return what `list` prints on a stream that can encode everything, with no newline behind the last line.

        Args:
            details: shows results and exceptions, shortened.
            silence_done_jobs: leaves out what is done, successfully or not.

        Returns:
            The lines; an empty string if there are none.

        Example:
            >>> Scheduler(AbstractJob(label="a")).listing()
            '1      ⚐    <AbstractJob `a`>'

        """
        return Listing(self, _script.Script()).text(details, silence_done_jobs)

    def debrief(self, file: TextIO | None = None) -> None:
        """Print what became of the last run: the listing, and whatever it takes to see why.

        That is, in this order: how many jobs, nested ones included, are in which state; the stop reason and, where
        there is one, the culprit, followed into nested schedulers; the incidents, such as a `co_shutdown` that
        raised; and of each job that failed the traceback, critical jobs first, otherwise in the order of settling. A
        nested scheduler that failed through one of its jobs is not told of again.

        Args:
            file: a text stream; None for the standard output.

        Raises:
            TypeError: `file` is no stream.

        Example:
            >>> async def nothing(): ...
            >>> scheduler = Scheduler(Job(nothing, label="job"))
            >>> scheduler.run()
            True
            >>> scheduler.debrief()
            1    ☉ ☓    <Job `job`>
            <BLANKLINE>
            jobs: 1 (1 succeeded)
            stop reason: COMPLETED

        """
        stream = _script.stream(file, f"debrief() of {self.label!r}")
        print(debrief(self, _script.Script(getattr(stream, "encoding", None))), file=stream)

    # ---- as a picture; what draws is imported when something is drawn

    def graph(self, **options: Unpack[GraphOptions]) -> Digraph:
        """Return the graph of its jobs as a `graphviz.Digraph`, which is shown in Jupyter, can be changed and rendered.

        Jobs are boxes, their shape tells the kind; nested schedulers are frames around their jobs, at whose borders
        lines end. The boxes are named by the numbers of `list`. Each state has its colour, and the sign of the
        listing; a critical job has a thick red line around it, a forever job a dashed one. A grey arrow means that the
        one job requires the other, a thick blue one that begins with a dot that it has its result as an argument; it
        is dashed where the job runs only after a failure. What is required and is not in this scheduler has a question
        mark and a dotted line. Long labels are cut; SVG shows kind, path and state under the pointer.

        Args:
            only: draws only some of the jobs, with the schedulers around them: a job, its `job.path`, a pattern of
                paths in which `*` stands for any text and `?` for any one character, or a collection of these. A
                nested scheduler stands for all that is in it. Dotted arrows lead past what is left out; where many
                would, they meet in a point.
            collapse: draws nested schedulers as single boxes: True for all, or some of them, given as with `only`.
            bundle: draws jobs that are alike as one box, with how many they are: of the same kind, their labels the
                same but for numbers, and what they require the same or alike. For wide graphs.
            direction: "TB", from top to bottom, or "LR", from left to right.
            legend: adds an explanation of the colours, shapes and lines that occur.

        Returns:
            The graph. `source` is its text; `render` and `pipe` draw it, with the program `dot`.

        Raises:
            TypeError: an unknown option, or neither jobs nor strings for `only` or `collapse`.
            ValueError: an unknown direction, a job from elsewhere, or a string that no path matches.

        Example:
            >>> first = AbstractJob(label="first")
            >>> scheduler = Scheduler(first, AbstractJob(label="last", required=first))
            >>> "1 -> 2" in scheduler.graph(legend=True).source
            True

        """
        from .view import _pictures

        return _pictures.graph(self, **options)

    def export_as_dotfile(self, path: str | os.PathLike[str], **options: Unpack[GraphOptions]) -> None:
        """Write the graph in the language of Graphviz; needs no program.

        Args:
            path: the file, which is replaced.
            options: those of `graph`.

        Raises:
            TypeError, ValueError: as `graph`.
            OSError: the file can't be written.

        """
        Path(path).write_text(self.graph(**options).source, encoding="utf-8")

    def export_as_svgfile(self, path: str | os.PathLike[str], **options: Unpack[GraphOptions]) -> None:
        """Write the graph as a picture in SVG, drawn by `dot`, for which a thousand boxes may take half a minute.

        Args:
            path: the file, which is replaced.
            options: those of `graph`.

        Raises:
            TypeError, ValueError: as `graph`.
            RuntimeError: `dot` is not installed, or has failed.
            OSError: the file can't be written.

        """
        from .view import _pictures

        _pictures.export(self, path, "svg", **options)

    def export_as_pngfile(self, path: str | os.PathLike[str], **options: Unpack[GraphOptions]) -> None:
        """Write the graph as a picture in PNG, 144 dots per inch, drawn by `dot`; otherwise as `export_as_svgfile`.

        Args:
            path: the file, which is replaced.
            options: those of `graph`.

        Raises:
            TypeError, ValueError: as `graph`.
            RuntimeError: `dot` is not installed, or has failed.
            OSError: the file can't be written.

        """
        from .view import _pictures

        _pictures.export(self, path, "png", **options)

    def mermaid(self, **options: Unpack[DrawingOptions]) -> str:
        """Return the graph as a Mermaid flowchart, which GitHub and GitLab draw where it stands in a README.

        GitHub draws up to 500 arrows: `only`, `collapse` and `bundle` make fewer of many.

        Args:
            options: those of `graph`, but `legend`.

        Returns:
            The text, to be put into a code block of the language `mermaid`.

        Raises:
            TypeError, ValueError: as `graph`.

        Example:
            >>> print(Scheduler(AbstractJob(label="a")).mermaid())
            flowchart TB
              classDef idle fill:#ffffff,stroke:#52606d,color:#1f2933
              n1("a"):::idle
            <BLANKLINE>

        """
        from .view import _pictures

        return _pictures.mermaid(self, **options)

    def export_as_mermaid(self, path: str | os.PathLike[str], **options: Unpack[DrawingOptions]) -> None:
        """Write what `mermaid` returns; needs no program.

        Args:
            path: the file, which is replaced.
            options: those of `graph`, but `legend`.

        Raises:
            TypeError, ValueError: as `graph`.
            OSError: the file can't be written.

        """
        Path(path).write_text(self.mermaid(**options), encoding="utf-8")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Show itself in Jupyter: as its graph, and where there is only text, as the listing."""
        return _jupyter.of_scheduler(self)
