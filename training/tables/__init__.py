"""A table is a set of rows with an update rule. An exactly sparse rule costs what the batch touches, never the
vocabulary: FTRL-Proximal and AdaGrad, by element and by row. Lazy Adam costs as little and is approximate; Adam
moves the whole table and is there to reproduce published results on small ones. One file per rule.

A sharded table is spread over the workers: worker `rank` of `world` holds the rows whose id is rank modulo world,
row id at place id // world. A replicated one is held as a whole by each of them (a world of one).

Shapes: R rows of the shard, U distinct rows of a step, D width.
"""

from nightjar.training.tables.choice import (
    check_device,
    check_tables,
    embedding_table,
    on_device,
    place,
    wide_table,
)
from nightjar.training.tables.device_table import DeviceTable
from nightjar.training.tables.table import Shard, Table

__all__ = [
    "DeviceTable",
    "Shard",
    "Table",
    "check_device",
    "check_tables",
    "embedding_table",
    "on_device",
    "place",
    "wide_table",
]
