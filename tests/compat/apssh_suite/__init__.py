"""The test suite of apssh, over asynciojobs and over trioflow's stand-in: tests that pass there pass here."""
