"""Traces of runs: spans, waits, critical paths, tables and exports."""
