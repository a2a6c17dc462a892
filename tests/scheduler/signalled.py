"""A scheduler in its own process, which gets signals."""

import signal
from .. import pythons

PROLOGUE = """
import signal, sys, time
import anyio
from trioflow import *
from trioflow._core.scheduler._sync_run import STALL_SECONDS, SignalHandler
from trioflow.abc import AbstractJob

taken_note = SignalHandler.interrupt
signals = []  # that have come to the watch of the run

def take_note(self, interruption):
    signals.append(interruption)
    taken_note(self, interruption)

SignalHandler.interrupt = take_note

async def until_signals(number):
    while len(signals) < number:
        await anyio.sleep(0.001)

def say(*words):
    print(*words, flush=True)

class Actor(AbstractJob):
    async def co_run(self):
        try:
            say("runs")
            await anyio.sleep(60)
        finally:
            say("unwinds")
    async def co_shutdown(self):
        say("begins")
        await until_signals(expected)
        await anyio.sleep(0.005)
        say("shut down")

expected = 0

def watched(call):
    try:
        say("returned", call(), scheduler.stop_reason)
    except BaseException as error:
        say("raised", type(error).__name__, scheduler.stop_reason)
"""


def child(code: str, *sends: tuple[str, signal.Signals]) -> list[str]:
    """Run the prologue and `code` in a new process; see `pythons.child`."""
    return pythons.child(PROLOGUE + code, *sends)
