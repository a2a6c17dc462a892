"""Kinds of jobs that work in threads, processes, executors and commands, on this machine or on others."""
