"""A program as users of asynciojobs write them: it visits the nodes of a network and reports as JSON.

It runs with asynciojobs and with the module that stands in for it; both must report the same."""

import asyncio
import json
import sys
import time
from pathlib import Path
from asynciojobs import (
    AbstractJob,
    Job,
    PrintJob,
    PureScheduler,
    Scheduler,
    Sequence,
    Watch,
)
from asynciojobs.job import AbstractJob as SameAbstractJob
from asynciojobs.scheduler import Scheduler as SameScheduler

assert SameAbstractJob is AbstractJob
assert SameScheduler is Scheduler
report = {}


class Connection:
    """The connection that the jobs of a node share: opened by the first, closed when the run shuts down."""

    opened = closed = busy = most_busy = 0

    def __init__(self):
        self.is_open = False

    async def use(self, duration):
        if not self.is_open:
            self.is_open = True
            Connection.opened += 1
        Connection.busy += 1
        Connection.most_busy = max(Connection.most_busy, Connection.busy)
        try:
            await asyncio.sleep(duration)
        finally:
            Connection.busy -= 1

    async def close(self):
        if self.is_open:
            self.is_open = False
            await asyncio.sleep(0.01)
            Connection.closed += 1


class NodeJob(AbstractJob):
    def __init__(self, node, connection, command, duration=0.02, fails=False, **kwds):
        self.scheduler = kwds.pop("bench", None)  # a name of our own
        self.node, self.connection, self.command = node, connection, command
        self.duration, self.fails = duration, fails
        super().__init__(**kwds)

    async def co_run(self):
        await self.connection.use(self.duration)
        if self.fails:
            raise ConnectionError(f"{self.node} hung up")
        return f"{self.node}: {self.command}"

    async def co_shutdown(self):
        await self.connection.close()

    def text_label(self):
        return f"{self.command} on {self.node}"

    def details(self):
        return f"command {self.command!r}"


def visit(node, boot=0.02, **kwds):
    connection = Connection()
    steps = [
        NodeJob(node, connection, command) for command in ("load image", "boot", "ping")
    ]
    steps[1].duration = boot
    probe = NodeJob(
        node,
        connection,
        "probe",
        fails=node == "node2",
        critical=False,
        required=steps[-1],
    )
    ticker = NodeJob(
        node, connection, "monitor", duration=60, forever=True, critical=False
    )
    return Scheduler(Sequence(*steps), probe, ticker, label=node, **kwds)


def state(job):
    exception = job.raised_exception()
    return [
        job.is_done(),
        job.is_idle(),
        f"{type(exception).__name__}: {exception}" if exception else None,
    ]


def sorted_states(scheduler):
    return sorted(
        [job.label or job.text_label(), *state(job)] for job in scheduler.iterate_jobs()
    )


def campaign():
    """Return nested schedulers in a window; a critical timeout in one of them is not fatal to the others."""
    watch = Watch("campaign")
    nodes = [visit(f"node{number}") for number in range(5)]
    slow = visit("slow", boot=60, timeout=0.3, critical=False, required=nodes[0])
    summary = PrintJob(
        "all nodes visited", label="summary", required=[nodes, {slow}, None]
    )
    scheduler = Scheduler(
        *nodes, slow, summary, label="campaign", jobs_window=2, timeout=10
    )
    report["checks"] = [scheduler.check_cycles(), nodes[0].sanitize(), len(scheduler)]
    report["all jobs"] = [
        len(list(scheduler.iterate_jobs())),
        len(list(scheduler.iterate_jobs(scan_schedulers=True))),
    ]
    report["campaign"] = [
        scheduler.run(),
        scheduler.why(),
        sorted_states(scheduler),
        slow.result(),
        slow.why(),
    ]
    report["connections"] = [
        Connection.opened,
        Connection.closed,
        Connection.busy,
        Connection.most_busy,
    ]
    report["in time"] = watch.seconds() < 50  # of the 60 that the slow node would take
    scheduler.shutdown()
    report["closed again"] = Connection.closed
    scheduler.list(details=True)
    scheduler.debrief(silence_done_jobs=True)
    print(scheduler.stats(), scheduler)


async def wait_and_return(duration, value):
    await asyncio.sleep(duration)
    return value


def window():
    connection = Connection()
    Connection.most_busy = 0
    jobs = [
        NodeJob(number, connection, "", duration=0.1, label=f"{number:02d}")
        for number in range(15)
    ]
    scheduler = PureScheduler(*jobs, jobs_window=3)
    start = time.monotonic()
    report["window"] = [
        scheduler.run(),
        Connection.most_busy,
        [job.result() for job in jobs],
    ]
    report["window is used"] = time.monotonic() - start > 0.48


def slices():
    a, b, c, d, aside = jobs = [
        Job(wait_and_return(0.01, name), label=name)
        for name in ("a", "b", "c", "d", "aside")
    ]
    scheduler = PureScheduler(Sequence(a, b, c, d), aside)
    report["upstream"] = [
        scheduler.predecessors_upstream(c) == {a, b},
        scheduler.successors_downstream(b) == {c, d},
    ]
    report["ends"] = [
        {*scheduler.entry_jobs()} == {a, aside},
        {*scheduler.exit_jobs()} == {d, aside},
    ]
    scheduler.bypass_and_remove(c)
    report["bypassed"] = [d.required == {b}, [*scheduler.successors(b)] == [d]]
    scheduler.keep_only_between(starts=[a], ends=[d], keep_ends=False)
    report["kept"] = [scheduler.jobs == {a, b}, a.required == set(), b.required == {a}]
    report["sliced run"] = [scheduler.run(), [state(job) for job in jobs]]
    scheduler.close_all_jobs()
    for job in (c, d, aside):
        job.close()


def failures():
    async def fail():
        raise KeyError("no such node")

    nested = Scheduler(
        Job(fail(), label="fatal"),
        Job(wait_and_return(5, 0), label="cut"),
        label="nested",
    )
    outer = PureScheduler(nested, PrintJob("never", required=nested, label="never"))
    report["critical"] = [
        outer.run(),
        outer.failed_critical(),
        outer.failed_time_out(),
        sorted_states(outer),
    ]
    late = PureScheduler(Job(wait_and_return(5, 0), label="late"), timeout=1)
    report["timeout"] = [
        late.run(),
        late.failed_time_out(),
        late.why(),
        sorted_states(late),
    ]
    try:
        Scheduler(Job(wait_and_return(5, 0)), timeout=0.05).run()
    except TimeoutError:
        report["raised"] = True
    within = PureScheduler(Job(wait_and_return(0.01, "inside")))
    wrapped = PureScheduler(Job(within.co_run(), label="a scheduler as a coroutine"))
    report["wrapped"] = [wrapped.run(), [job.result() for job in [*wrapped, *within]]]


def exports(folder):
    nodes = [visit("one"), visit("two", critical=False)]
    scheduler = Scheduler(
        Sequence(*nodes, PrintJob("done", label='say "done"')), label="graph"
    )
    scheduler.export_as_dotfile(folder / "graph.dot")
    scheduler.export_as_graphic(folder / "picture", "svg")
    report["exports"] = sorted(path.name for path in folder.iterdir())
    report["dashed"] = (folder / "graph.dot").read_text().count("dashed")
    report["clusters"] = scheduler.dot_format().count("subgraph")


campaign()
window()
slices()
failures()
exports(Path(sys.argv[1]))
print("REPORT", json.dumps(report, sort_keys=True))
