"""A day's raw log scored by every model as it serves, and passes over the scored rows, in Spark's tasks."""
