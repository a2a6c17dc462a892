"""The views: a scheduler, or the record of its run, as text, pictures, pages and files."""

from ._save import listing as listing
from ._save import save as save

listing.__module__ = save.__module__ = __name__

__all__ = ["listing", "save"]
