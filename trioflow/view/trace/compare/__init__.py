"""The comparison of two traces: why one run took longer than the other."""
