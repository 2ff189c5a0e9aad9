"""Raw candidates to scores, by Spark."""
