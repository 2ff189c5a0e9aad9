"""The tests of the storage contract run on a real HDFS, too, where `make hdfs` has started one."""

from __future__ import annotations

import os

HDFS_URL = "NIGHTJAR_HDFS"
"""Environment variable: where that HDFS is."""
REAL_HDFS = ("real_hdfs",) if HDFS_URL in os.environ else ()
"""Its fixture, among those of other file systems."""
