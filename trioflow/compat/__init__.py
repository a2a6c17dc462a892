"""The names of older programs: scripts written for them run with another import."""
