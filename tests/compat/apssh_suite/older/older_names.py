"""A plugin of pytest for tests that were written before a class of apssh had its present name."""

import apssh

apssh.ColonFormatter = apssh.HostFormatter  # until 0.24
