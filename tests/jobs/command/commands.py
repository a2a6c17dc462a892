"""Helpers for the tests of commands."""

import subprocess
import sys
from typing import Any
from trioflow import CommandError, CommandJob, CommandService, JobState, SshService
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


def failed(service: CommandService | SshService, backend: Any) -> BaseException:
    """Run a service with a command that requires it, and return the error with which the service has failed."""
    run(backend, service, CommandJob(["true"], required=service, run_if="succeeded"))
    assert service.state is JobState.FAILED
    error = service.raised_exception()
    assert error is not None
    return error


def with_notes(error: BaseException | None) -> str:
    """Return the text of an error, and its notes, which have the advice. The command is quoted there, too."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])
