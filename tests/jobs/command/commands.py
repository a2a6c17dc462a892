"""Helpers for the tests of commands."""

import subprocess
import sys
from typing import Any
from trioflow import CommandError, CommandJob
from ...bodies import run

PIPE = subprocess.PIPE


def python(code: str, *arguments: Any, **options: Any) -> CommandJob:
    return CommandJob([sys.executable, "-S", "-E", "-c", code, *arguments], **options)


def failure_of(backend: str, job: CommandJob) -> CommandError:
    run(backend, job)
    error = job.raised_exception()
    assert isinstance(error, CommandError)
    assert error.job is job
    return error


def with_notes(error: BaseException | None) -> str:
    """Return the text of an error, and its notes, which have the advice. The command is quoted there, too."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])
