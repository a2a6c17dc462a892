"""The plain way: the engine on trio and asyncio through public names alone; see `_workers`."""
