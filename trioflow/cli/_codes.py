"""The exit codes, and what `--help` says of them."""

from __future__ import annotations

from typing import Final

FINE: Final = 0
STOPPED: Final = 1
USAGE: Final = 2
FAILED: Final = 3
INTERRUPTED: Final = 130  # what a shell reports of a program that Ctrl-C has ended

EXIT_CODES: Final = """\b
Exit codes:
  0    all is fine
  1    the run was stopped: a critical failure, its timeout, cancel();
       check found something; an output could not be written
  2    the command line is wrong, the file cannot be loaded,
       or its scenario cannot run
  3    the run went on to its end, but some jobs failed
  130  interrupted: Ctrl-C, SIGTERM, SIGHUP
"""
