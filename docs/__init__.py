"""Pages for people, and what writes the one that is generated."""
