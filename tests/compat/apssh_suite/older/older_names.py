"""A pytest plugin for tests older than the present name of a class of apssh."""

import apssh

apssh.ColonFormatter = apssh.HostFormatter  # until 0.24
