"""Logged requests scored again, and held against the log of their day: what differs, by column and by name."""
