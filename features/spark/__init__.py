"""What Spark's rooms share: tasks on Arrow batches, tables in published directories, the hashed columns of a log."""
