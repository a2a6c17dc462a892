"""The engine: no terminal, no drawing, no processes, no environment, no print."""
