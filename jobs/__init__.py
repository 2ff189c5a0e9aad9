"""spark-submit entry points: parse, check, call, report."""
