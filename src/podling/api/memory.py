"""Gives memory that is free back to the machine.

glibc keeps what lies between pieces still in use. TLS connections leave much of that behind: a thousand watchers that
came and went had cost 30 MB, and as many again each time. Smaller limits for `mmap` (`M_MMAP_THRESHOLD`) would avoid
it too, but make every long list answer three times as expensive.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Takes a few milliseconds; does nothing where the C library has no `malloc_trim`."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
