"""Texts about runs: explanations, reports, log lines, and answers for views. They only read. No run needs them."""
