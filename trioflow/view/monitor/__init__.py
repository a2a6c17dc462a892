"""The live view of a run: on a terminal or in a log."""
