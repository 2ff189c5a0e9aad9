"""Data set to candidate model: plan, loader, sharded tables, models, the training loop."""
