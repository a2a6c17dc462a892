"""What is wrong with a scenario, or looks as if."""
