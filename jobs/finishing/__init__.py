"""The judged model learns the day that judged it, and serves."""
