"""Reports of a run for CI systems."""
