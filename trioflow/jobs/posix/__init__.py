"""Processes and process groups, and the guard that lets none of them outlive its run."""
