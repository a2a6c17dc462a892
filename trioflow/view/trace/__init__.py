"""Traces of runs: the recorded times of jobs, their analysis, and its export as tables, files and pictures.

Decided in docs/decisions: 28-traces.
"""
