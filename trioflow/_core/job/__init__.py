"""One job: what it is, what it requires, and how it ended."""
