"""Threads of torch that wait for one another sleep soon, instead of burning the cores that decoders need."""

from __future__ import annotations

import os

SETTINGS = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
"""How long a thread spins before it sleeps: rounds for GNU's OpenMP, milliseconds for Intel's and LLVM's."""


def keep_short() -> None:
    """Says so to OpenMP, which reads it when torch is first imported; what the user has set holds.

    By default it spins for long, on the assumption that nobody else needs the cores; beside busy decoders a pass
    through a backbone then takes longer, and far more processor time.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
