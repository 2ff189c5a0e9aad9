"""Raw values to ids and numbers: the same code in Spark's tasks and in serving. No Spark."""
