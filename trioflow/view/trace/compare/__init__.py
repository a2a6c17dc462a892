"""Two traces beside each other: why one run took longer than the other."""
