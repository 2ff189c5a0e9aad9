"""Data set to candidate model: plan, loader, sharded tables, models, the training loop."""

import os

# OpenMP's threads wait for the next piece of work asleep, not spinning: the loader's thread, another worker or Spark
# want their processor, and on a busy machine spinning made a step eight times as slow. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
