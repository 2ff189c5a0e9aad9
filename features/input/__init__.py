"""Impression logs of whatever format: described, looked at before Spark starts, and read day by day."""
