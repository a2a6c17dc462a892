"""How jobs share tasks: the fast ways, with private parts of trio and anyio, and the plain way, without."""
