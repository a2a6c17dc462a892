"""The events of a run as lines of JSON for other programs, and a reader that shows such a file on a monitor."""
