"""The names of older programs: their scripts run with another import."""
