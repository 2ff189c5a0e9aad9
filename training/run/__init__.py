"""The workers of a run: how they are started, talk to each other, report, and are started again."""
