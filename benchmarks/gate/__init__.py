"""The gate's sums: against exact figures, and what they cost."""
