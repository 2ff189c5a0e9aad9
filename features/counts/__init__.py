"""Counts: of a day, of all days merged, and as of a moment."""
