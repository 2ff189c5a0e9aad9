"""Expressions that compute columns of other columns: what may be written, and what it is parsed to."""
