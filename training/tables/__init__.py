"""A table is a set of rows with an update rule. An exactly sparse rule costs what the batch touches, never the
vocabulary: FTRL-Proximal and AdaGrad, by element and by row. Lazy Adam costs as little and is approximate; Adam
moves the whole table and is there to reproduce published results on small ones. One file per rule.

A sharded table is spread over the workers by `shard`. A replicated one is held as a whole by each of them (a world of
one).

Shapes: R rows of the shard, U distinct rows of a step, D width.
"""
