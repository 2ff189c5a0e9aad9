"""A model of a spec with every kind of input, scored row by row in float64: shares no code with serving.

The spec: single and multi-valued fields under all poolings, one without an embedding, one outside the wide part,
crosses (one over a list), the three dense transforms, counts by day and up to the impression.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import xxhash
from onnx import TensorProto, helper, numpy_helper

from nightjar.features.contract.layout import ColumnSpec as LayoutColumn
from nightjar.features.contract.layout import dataset_columns, table_layout
from nightjar.features.contract.spec import FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "name": "kit",
        "label": "clicked",
        "timestamp": "time",
        "group": "user",
        "truth": "p",
        "fields": [
            {"name": "user", "embedding": 4},
            {"name": "item", "column": "item_id", "embedding": 2},
            {"name": "premium", "embedding": 0},
            {"name": "seen", "multi_valued": True, "embedding": 4, "pooling": "mean"},
            {"name": "tags", "multi_valued": True, "embedding": 2, "pooling": "sum", "wide": False},
            {"name": "words", "multi_valued": True, "embedding": 4, "pooling": "sqrtn"},
        ],
        "dense": [
            {"name": "age", "transform": "quantile", "quantiles": 5},
            {"name": "price", "transform": "log", "missing_value": -1.0},
            {"name": "depth", "transform": "identity", "missing_indicator": False},
        ],
        "crosses": [
            {"name": "user_item", "fields": ["user", "item"], "buckets": 64},
            {"name": "seen_item", "fields": ["seen", "item"], "buckets": 128},
        ],
        "frequencies": [
            {"name": "item_rate", "keys": ["item"], "windows": ["1d", "all"], "prior": 0.3},
            {"name": "pair", "keys": ["user", "item"], "prior": 0.2, "as_of": "impression"},
        ],
    }
)
VALUES = {
    "user": ["ann", "bob", "çelik", "dd", ""],
    "item": ["1", "2", "3", "-4"],
    "premium": ["true", "false"],
    "seen": ["1", "2", "3", "9"],
    "tags": ["news", "été", "x"],
    "words": ["a", "b", "c"],
}
BOUNDARIES = {"age": (18.0, 30.0, 30.0, 55.0)}
HIDDEN = 5
Row = dict[str, Any]


def raw_hash(value: Any) -> int:
    """XXH64 of the value's string, seed 42, signed; 42 for a missing value."""
    if value is None:
        return 42
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return _signed(xxhash.xxh64_intdigest(text.encode(), 42))


def tuple_hash(*hashes: int) -> int:
    seed = 42
    for h in hashes:
        seed = xxhash.xxh64_intdigest(h.to_bytes(8, "little", signed=True), seed)
    return _signed(seed)


def _signed(h: int) -> int:
    return h - 2**64 if h >= 2**63 else h


# By frequency, key and window: impressions and positives.
COUNTS: dict[str, dict[int, dict[str, tuple[int, int]]]] = {
    "item_rate": {
        tuple_hash(raw_hash(1)): {"1d": (3, 1), "all": (50, 20)},
        tuple_hash(raw_hash(2)): {"1d": (0, 0), "all": (7, 0)},
        tuple_hash(raw_hash(None)): {"1d": (1, 1), "all": (4, 2)},
    },
    "pair": {tuple_hash(raw_hash("ann"), raw_hash(1)): {"all": (9, 5)}},
}


@dataclass(frozen=True)
class Oracle:
    """Parameters of a model, drawn at random and rounded to float32, and the scores that they mean."""

    model: str
    columns: tuple[LayoutColumn, ...]
    wide: dict[int, float]
    embeddings: dict[int, np.ndarray]
    hidden: np.ndarray
    output: np.ndarray

    @staticmethod
    def draw(model: str, seed: int) -> Oracle:
        rng = np.random.default_rng(seed)
        columns = dataset_columns(SPEC, {field: 2 + len(values) for field, values in VALUES.items()})
        layout = table_layout(columns)

        def normal(*shape: int) -> np.ndarray:
            return rng.normal(size=shape).astype(np.float32).astype(np.float64)

        kept = [0, *range(1, layout.wide_rows, 2), *range(layout.wide_rows - 6, layout.wide_rows, 2)]
        wide = {n: float(w) for n, w in zip(sorted(set(kept)), normal(len(set(kept))) * 0.25, strict=True)}
        wide[3] = 0.0
        embeddings = {width: normal(layout.embedding_rows(width), width) for width in layout.embeddings}
        inputs = sum(width * len(slots) for width, slots in layout.embeddings.items()) + len(SPEC.dense_names())
        return Oracle(model, columns, wide, embeddings, normal(inputs, HIDDEN) * 0.25, normal(HIDDEN) * 0.5)

    def score(self, rows: list[Row]) -> np.ndarray:
        """Probabilities, float64[rows]."""
        return np.array([1.0 / (1.0 + math.exp(-self.logit(row))) for row in rows])

    def logit(self, row: Row) -> float:
        ids, dense = self._ids(row), self._dense(row)
        logit = 0.0
        if self.model != "deep":
            logit += self._first_order(ids, dense)
        if self.model != "lr":
            inputs = np.array(self._embed(ids) + [dense[name] for name in SPEC.dense_names()])
            logit += float(np.maximum(inputs @ self.hidden, 0.0) @ self.output)
        return logit

    def _ids(self, row: Row) -> dict[str, set[int]]:
        """Ids by column name, as sets: a single-valued column has one."""
        hashes: dict[str, set[int]] = {}
        ids: dict[str, set[int]] = {}
        for field in SPEC.fields:
            value = row[field.source]
            values = [v for v in value or [] if v is not None] if field.multi_valued else [value]
            hashes[field.name] = {raw_hash(v) for v in values}
            known = {raw_hash(v): n for n, v in enumerate(VALUES[field.name], 2)} | {42: 0}
            ids[f"f_{field.name}"] = {known.get(h, 1) for h in hashes[field.name]}
        for cross in SPEC.crosses:
            a, b = (hashes[name] for name in cross.fields)
            ids[f"x_{cross.name}"] = {tuple_hash(x, y) % cross.buckets for x in a for y in b}
        return ids

    def _dense(self, row: Row) -> dict[str, float]:
        age, price, depth = (math.nan if row[name] is None else float(row[name]) for name in ("age", "price", "depth"))
        values = {
            "age": 0.0 if math.isnan(age) else sum(b <= age for b in BOUNDARIES["age"]) / len(BOUNDARIES["age"]),
            "age_missing": float(math.isnan(age)),
            "price": -1.0 if math.isnan(price) else math.copysign(math.log1p(abs(price)), price),
            "price_missing": float(math.isnan(price)),
            "depth": 0.0 if math.isnan(depth) else depth,
        }
        for frequency in SPEC.frequencies:
            sources = [field.source for name in frequency.keys for field in SPEC.fields if field.name == name]
            key = tuple_hash(*(raw_hash(row[source]) for source in sources))
            for window in frequency.windows:
                impressions, positives = COUNTS[frequency.name].get(key, {}).get(window, (0, 0))
                if frequency.as_of == "impression":
                    impressions += row.get("pair_impressions_so_far") or 0
                    positives += row.get("pair_positives_so_far") or 0
                strength, prior = frequency.strength, frequency.prior
                rate = (positives + prior * strength) / (impressions + strength)
                values[f"{frequency.name}_{window}_rate"] = rate
                values[f"{frequency.name}_{window}_log_count"] = math.log(1 + impressions)
        return values

    def _first_order(self, ids: dict[str, set[int]], dense: dict[str, float]) -> float:
        logit = self.wide[0]
        for slot in table_layout(self.columns).wide:
            if slot.column.role == "dense":
                logit += self.wide.get(slot.offset, 0.0) * dense[slot.column.feature]
            else:
                logit += sum(self.wide.get(slot.offset + i, 0.0) for i in ids[slot.column.name])
        return logit

    def _embed(self, ids: dict[str, set[int]]) -> list[float]:
        inputs: list[float] = []
        for width, slots in table_layout(self.columns).embeddings.items():
            for slot in slots:
                mine = sorted(ids[slot.column.name])
                total = sum((self.embeddings[width][slot.offset + i] for i in mine), np.zeros(width))
                divisor = {"sum": 1.0, "mean": len(mine), "sqrtn": math.sqrt(len(mine))}[slot.column.pooling]
                inputs.extend(total / (divisor or 1.0))
        return inputs

    def head(self) -> onnx.ModelProto:
        """logit = first_order + relu([embeddings, dense] W) v, less what the architecture lacks."""
        if self.model == "lr":
            nodes = [helper.make_node("Identity", ["first_order"], ["logit"])]
            return _onnx(nodes, {"first_order": None}, {})
        weights = {"W": self.hidden.astype(np.float32), "v": self.output.astype(np.float32)}
        n_dense = len(SPEC.dense_names())
        inputs: dict[str, int | None] = {"embeddings": len(self.hidden) - n_dense, "dense": n_dense}
        deep = "logit" if self.model == "deep" else "deep"
        nodes = [
            helper.make_node("Concat", ["embeddings", "dense"], ["x"], axis=1),
            helper.make_node("MatMul", ["x", "W"], ["h"]),
            helper.make_node("Relu", ["h"], ["a"]),
            helper.make_node("MatMul", ["a", "v"], [deep]),
        ]
        if self.model != "deep":
            inputs["first_order"] = None
            nodes.append(helper.make_node("Add", ["first_order", "deep"], ["logit"]))
        return _onnx(nodes, inputs, weights)


def _onnx(nodes: list[Any], inputs: dict[str, int | None], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    def tensor(name: str, width: int | None) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", width] if width else ["B"])

    graph = helper.make_graph(
        nodes,
        "head",
        [tensor(name, width) for name, width in inputs.items()],
        [tensor("logit", None)],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
