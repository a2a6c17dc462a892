"""The events of a run as lines of JSON for other programs."""
