"""One run of one scheduler."""
