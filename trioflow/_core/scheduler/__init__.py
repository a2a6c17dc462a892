"""The scheduler: its members, the checks before a run, and reports about them."""
