"""A pytest plugin for tests of apssh that use an older name of a class."""

import apssh

apssh.ColonFormatter = apssh.HostFormatter  # until 0.24
