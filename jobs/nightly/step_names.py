"""The names of a night's steps, in their order. Imports nothing, since the command line knows them too."""

STEPS = ("validate", "aggregate", "encode", "summarize", "train", "pack", "evaluate", "gate", "publish")
