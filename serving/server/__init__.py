"""The champion behind HTTP: what `nightjar serve` runs. Needs the extra `serve`."""
