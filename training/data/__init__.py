"""A published data set as batches: its files, the plan of who reads what, the loader."""
