"""What each release has promised and written: its public names, and a journal, a trace, events and durations of it.

`python -m tests.released` makes the folder of this version, which goes into the commit that is released. Each later
version has these names, and reads these files.
"""
