"""Public data sets as impression logs, and a generator of logs whose truth is known."""
