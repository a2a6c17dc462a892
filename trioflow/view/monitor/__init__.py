"""The live view of a run: on a terminal, in a log, in a notebook."""
