"""All that a run needs to go on, for any number of workers."""
