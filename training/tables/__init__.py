"""A table is a set of rows with an exactly sparse update rule: a step costs what the batch touches, never the
vocabulary. One file per rule.

Tables are sharded: worker `rank` of `world` holds the rows whose id is rank modulo world, row id at place id
// world. Shapes: R rows of the shard, U distinct rows of a step, D width.
"""

from training.tables.adagrad import EmbeddingTable
from training.tables.ftrl import WideTable
from training.tables.table import Shard, Table

__all__ = ["EmbeddingTable", "Shard", "Table", "WideTable"]
