"""Held-out metrics over all workers, and what follows from them for the run."""
