"""A day's log at a glance, held against the days before it, and summarised for people."""
