"""A look into a program that runs: its record as data, the answers to another program, the record as text, a page."""
