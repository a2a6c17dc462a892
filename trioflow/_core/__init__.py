"""The engine: it runs jobs, but starts no processes, reads no environment variables, and neither draws nor prints.

Modules outside of the engine import those that an import contract in `pyproject.toml` names.
"""
