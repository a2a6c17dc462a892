"""Admission of ready jobs: their order, and the resources that they need."""
