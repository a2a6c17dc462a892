"""A look into a program that runs: its record as data, the answer to another program, and the record as text."""
