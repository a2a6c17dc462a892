"""`PrintJob`: a job that prints."""

from __future__ import annotations

from typing import Any

import anyio

from .job import AbstractJob


class PrintJob(AbstractJob):
    """A job that prints its messages on a line, and may then sleep.

    Args:
        messages: the objects to print.
        sleep: the number of seconds to sleep, or None not to sleep.
        banner: a text to print before the messages.
        scheduler: a scheduler to add the job to.
        label: the label in listings.
        required: the requirements.

    Example:
        >>> from trioflow.compat.asynciojobs import PrintJob, PureScheduler
        >>> PureScheduler(PrintJob("hello", "world")).run()
        hello world
        True

    """

    messages: tuple[Any, ...]
    sleep: float | None
    banner: str | None

    def __init__(
        self,
        *messages: Any,
        sleep: float | None = None,
        banner: str | None = None,
        scheduler: Any = None,
        label: str | None = None,
        required: Any = None,
    ) -> None:
        self.messages = messages
        self.sleep = sleep
        self.banner = banner
        super().__init__(label=label, required=required, scheduler=scheduler)

    async def co_run(self) -> None:
        """Print the messages, then sleep."""
        if self.banner:
            print(self.banner, end=" ")
        print(*self.messages)
        if self.sleep:
            print(f"Sleeping for {self.sleep}s")
            await anyio.sleep(self.sleep)

    def details(self) -> str:
        """Return the time to sleep and the first message as text."""
        sleep = ""
        if self.sleep:
            sleep = f"[+ sleep {self.sleep}s] "
        more = "..." if len(self.messages) > 1 else ""
        message = self.messages[0] if self.messages else ""
        return f"{sleep}msg= {message}{more}"
