"""Derived columns, computed by one evaluator: Spark's tasks and a request call it on the same values."""
