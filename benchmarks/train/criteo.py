"""Rows in the shape of the Criteo log: 26 categorical fields, 13 dense columns, ids drawn log-uniformly.

Labels follow a logistic model of the ids and the dense columns, so that a log loss says something.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmarks.encoded import publish_encoded
from nightjar.features.contract.publishing import is_published
from nightjar.features.contract.spec import CategoricalField, DenseFeature, FeatureSpec

FIELDS, DENSE, WIDTH = 26, 13, 16
ROWS_PER_FILE = 16_384


@dataclass(frozen=True)
class Criteo:
    """A generated data set. vocabulary: ids of all fields together; dense: number of dense columns."""

    vocabulary: int
    rows: int
    seed: int
    dense: int = DENSE

    @property
    def ids_per_field(self) -> int:
        """Ids of each field."""
        return self.vocabulary // FIELDS

    @property
    def spec(self) -> FeatureSpec:
        """The fields and dense columns."""
        return FeatureSpec(
            name="criteo_shaped",
            label="clicked",
            timestamp="time",
            fields=tuple(CategoricalField(name=f"c{i}", embedding=WIDTH) for i in range(FIELDS)),
            dense=tuple(
                DenseFeature(name=f"n{i}", transform="log", missing_indicator=False) for i in range(self.dense)
            ),
        )

    def publish(self, directory: str) -> None:
        """Write it, unless it is there."""
        if not is_published(directory):
            sizes = dict.fromkeys((field.name for field in self.spec.fields), self.ids_per_field)
            publish_encoded(directory, self.spec, sizes, self._tables())

    def _tables(self) -> Iterator[pa.Table]:
        truth = np.random.default_rng(0)
        of_dense = truth.normal(0.0, 0.3, self.dense)
        of_common_ids = truth.normal(0.0, 0.35, (FIELDS, 4096)).astype(np.float32)
        rng = np.random.default_rng(self.seed)
        for first in range(0, self.rows, ROWS_PER_FILE):
            rows = min(ROWS_PER_FILE, self.rows - first)
            ids_BF = (self.ids_per_field ** rng.random((rows, FIELDS))).astype(np.int32) - 1
            dense_BN = rng.normal(0.0, 1.0, (rows, self.dense)).astype(np.float32)
            effects_BF = of_common_ids[np.arange(FIELDS), ids_BF % 4096]
            logit_B = -1.2 + effects_BF.sum(axis=1) + dense_BN @ of_dense
            label_B = rng.random(rows) < 1.0 / (1.0 + np.exp(-logit_B))
            columns = {"label": label_B.astype(np.float32)}
            columns |= {f"f_c{f}": ids_BF[:, f] for f in range(FIELDS)}
            columns |= {f"d_n{n}": dense_BN[:, n] for n in range(self.dense)}
            yield pa.table(columns)
