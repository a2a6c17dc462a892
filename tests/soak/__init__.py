"""Soak: much of everything, for long, in one program; nothing of the program may grow by it."""
