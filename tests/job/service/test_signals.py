"""Ctrl-C at a run with services: a real signal to a real process."""

import signal
import pytest
from ...scheduler.signalled import child

PLANT = """
import threading

main, again = threading.get_ident(), None

async def serve(name, *uses, task_status):
    task_status.started(name)
    await act(name)

async def act(name):
    try:
        await anyio.sleep(60)
    finally:
        with anyio.CancelScope(shield=True):
            say(name, "unwinds")
            await anyio.sleep(0.005)
            await until_signals(2 if name == again else 0)
            say(name, "is gone")

def tell():  # a signal while a job runs, and does not wait, would interrupt it
    while sys._current_frames()[main].f_code.co_name not in ("get_events", "select"):
        time.sleep(0.001)
    say("ready")

async def ready(*uses):
    threading.Thread(target=tell).start()
    await act("client")

class Last(AbstractJob):
    async def co_run(self):
        pass
    async def co_shutdown(self):
        say("shut down")

base = Service(serve, "base")
upper = Service(serve, "upper", base)
client = Job(ready, upper)
alarm = Job(anyio.sleep, 0, run_if="failed", required=client)
forever = Job(act, "forever", forever=True)
scheduler = Scheduler(base, forever, client, upper, alarm, Last())
"""
ORDER = ["client", "forever", "upper", "base"]
ENDING = [line for name in ORDER for line in (f"{name} unwinds", f"{name} is gone")]


@pytest.mark.parametrize("again", [None, ORDER[0], ORDER[-1]])
def test_ctrl_c_ends_services_in_order(backend: str, again: str | None) -> None:
    """At Ctrl-C, clients and forever jobs end before services, users first; a second Ctrl-C makes no difference."""
    code = f"""{PLANT}
again = {again!r}
watched(lambda: scheduler.run(backend={backend!r}))
say(base.state, upper.result(), alarm.state)
"""
    sends = [("ready", signal.SIGINT)] + (
        [] if again is None else [(f"{again} unwinds", signal.SIGINT)]
    )
    assert child(code, *sends) == [
        "ready", *ENDING, "shut down", "raised KeyboardInterrupt interrupted",
        "succeeded upper idle",
    ]  # fmt: skip


def test_ctrl_c_under_co_run_ends_services_in_order(backend: str) -> None:
    run = (
        "trio.run(scheduler.co_run)"
        if backend == "trio"
        else "asyncio.run(scheduler.co_run())"
    )
    code = f"import trio, asyncio\n{PLANT}\nwatched(lambda: {run}); say(base.state, upper.result(), alarm.state)"
    lines = child(code, ("ready", signal.SIGINT))
    assert lines[:-2] == ["ready", *ENDING, "shut down"]
    assert lines[-2].startswith("raised KeyboardInterrupt")
    assert lines[-1] == "succeeded upper idle"
