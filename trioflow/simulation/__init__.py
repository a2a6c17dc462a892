"""Simulated runs of a scenario on a virtual clock, with the expected durations of its jobs."""
