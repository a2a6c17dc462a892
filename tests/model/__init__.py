"""The contract, executable: one model of all mechanisms, and random scenarios in which every pair of them meets."""
