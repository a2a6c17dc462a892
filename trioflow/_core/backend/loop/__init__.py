"""The event loops of trio and asyncio, through public names only."""
