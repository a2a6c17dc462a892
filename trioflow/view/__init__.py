"""What turns a scheduler, or the events of its run, into something to look at."""
