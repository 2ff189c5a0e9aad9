"""Logs to features: the spec (contract), the encoder and its fitted state, and the Spark jobs' building blocks."""
