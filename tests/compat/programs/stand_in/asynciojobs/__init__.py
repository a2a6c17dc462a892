"""Found before the installed asynciojobs by a program that has this folder on its path."""

from trioflow.compat.asynciojobs import stand_in

stand_in()
