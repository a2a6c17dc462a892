"""Schedulers: their members, the checks before a run, and the ways to run or await them."""
