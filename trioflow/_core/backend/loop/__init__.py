"""The event loops of trio and asyncio, as far as a backend needs them, through public names alone."""
