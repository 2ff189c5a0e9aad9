"""Pages for people, drawn from what is published."""
