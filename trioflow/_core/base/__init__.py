"""What the rest of the engine is built on: graphs, states and the log."""
