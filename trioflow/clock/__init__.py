"""Virtual time: the clocks of simulations and tests, on both backends. Users import them from `trioflow.testing`."""

from ._virtual import VirtualTimeEventLoop as VirtualTimeEventLoop
from ._virtual import run_virtual as run_virtual
from ._virtual import virtual_options as virtual_options
