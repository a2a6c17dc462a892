# pyright: reportUnusedImport=false
"""The work of a job as journals identify it, in a module of its own: it takes 8 ms to import, mostly `inspect`."""

from ..job._work_spec import HashOnly, LocalDirectory, Work
