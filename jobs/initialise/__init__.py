"""A first config, written from a look at a log: what `init_config` does, without Spark."""
