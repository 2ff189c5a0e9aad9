"""Nightly distributed training of click-through and ranking models; see README.md.

The folders below are links to those at the top of the repository (ARCHITECTURE.md, "One namespace").
"""

__version__ = "0.1.0"
