"""A scenario on a virtual clock, and how long its jobs are expected to take."""
