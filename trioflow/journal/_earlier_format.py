"""The format of journals before the current one, and the statements that bring a journal of it up to date.

A run that opens such a journal first copies it, and then makes all changes in one transaction: a run that is killed
meanwhile leaves a journal of one of the two formats. A command that only reads makes the changes in a temporary copy.

If the format of a release changes, the version and the statements of `_store` come here, with new `UPDATE_STATEMENTS`.
"""

from __future__ import annotations

from typing import Final

EARLIER_VERSION: Final = 5
EARLIER_SCHEMA_STATEMENTS: Final = (
    "CREATE TABLE runs (id INTEGER PRIMARY KEY, label TEXT NOT NULL, started REAL NOT NULL, ended REAL, outcome TEXT,"
    " process TEXT NOT NULL, ending TEXT)",
    "CREATE TABLE jobs (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL, saved TEXT,"
    " result BLOB, large TEXT, outputs TEXT, run INTEGER NOT NULL, restored INTEGER, settled REAL NOT NULL,"
    " elapsed REAL, why TEXT, checksum INTEGER)",
    "CREATE TABLE results (hash TEXT, piece INTEGER, data BLOB NOT NULL, PRIMARY KEY (hash, piece))",
    "CREATE TABLE begun (path TEXT PRIMARY KEY, outputs TEXT NOT NULL, checksum INTEGER) WITHOUT ROWID",
)
UPDATE_STATEMENTS: Final = (
    "ALTER TABLE jobs RENAME COLUMN elapsed TO took",
    "ALTER TABLE jobs ADD COLUMN code TEXT",
    # Digests of functions, by run: those of records are not known.
    "DELETE FROM results WHERE hash GLOB 'code *'",
)
"""What turns the tables of the earlier format, with their rows, into those of `_store`, text by text. A statement that
changes one of the first six columns of `jobs`, or a row of `begun`, must mend its checksum, too."""
