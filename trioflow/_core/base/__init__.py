"""The ground of the engine: graphs, states, units, and the log."""
