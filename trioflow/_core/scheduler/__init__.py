"""Schedulers: their members, the checks before a run, the ways to run or await them, and reports on failures."""
