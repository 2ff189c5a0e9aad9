"""What requests bring, held against what the model was made with: columns, types and values of the golden rows."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from nightjar.features.encoder.encoder import ColumnValues, Encoder
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.serving.model import ServingModel
from nightjar.serving.raw_values import Row, kind_of, to_rows
from nightjar.serving.replay.differences import Difference

# Later days have new values, and golden rows are few: what is more than that is not explained by either.
_TIMES, _MORE, _DEVIATIONS = 1.5, 0.02, 4.0


@dataclass
class InputTally:
    """Counts of the rows of one version.

    absent: rows without a required column; kinds: types of its values; unseen: of a field with a vocabulary, values
    without an id, and all that are not missing.
    """

    rows: int = 0
    absent: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unseen: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)

    def add_rows(self, rows: Sequence[Row], required: Sequence[str]) -> None:
        """Count columns and types of raw rows. required: columns that rows should bring."""
        self.rows += len(rows)
        for name in required:
            self.absent[name] += sum(name not in row for row in rows)
            self.kinds[name].update(kind_of(row.get(name)) for row in rows)

    def add_encoded(self, model: ServingModel, columns: Mapping[str, ColumnValues]) -> None:
        """Count the ids of encoded rows."""
        for one in model.state.spec.fields:
            if one.kind == "vocabulary" and one.serve_as is None:
                column = columns[f"f_{one.name}"]
                ids = column.values if isinstance(column, Ragged) else column
                self.unseen[one.name] += int(np.sum((ids > 0) & (ids < one.first_id)))
                self.values[one.name] += int(np.sum(ids > 0))


def required_columns(model: ServingModel) -> list[str]:
    """Columns without which a request is refused."""
    return [column.name for column in model.inputs if column.required]


def tally_of(model: ServingModel, rows: pa.Table) -> InputTally:
    """The tally of golden rows."""
    tally = InputTally()
    tally.add_rows(to_rows(rows), required_columns(model))
    hashed = hash_rows(model.state, rows, as_logged=True)
    tally.add_encoded(model, Encoder(model.state.spec, model.state.encoder).encode(hashed))
    return tally


def input_differences(model: ServingModel, requests: InputTally, golden: InputTally) -> Iterator[Difference]:
    """Columns that are absent, of other types, or with more unseen values than the golden rows let expect."""
    for column in model.inputs:
        if not column.required:
            continue
        name, of = column.name, requests.rows
        if requests.absent[name]:
            said = f"{requests.absent[name]:,} rows do not bring it: {column.meaning}"
            yield Difference(kind="missing column", column=name, rows=requests.absent[name], of=of, said=said)
        expected = {_alike(kind, column.type) for kind in golden.kinds[name]} - {"missing", "list of nothing"}
        for kind, rows in requests.kinds[name].items():
            odd = _alike(kind, column.type) not in expected | {"missing", "list of nothing"}
            if expected and odd:
                said = f"{kind}, where the model was made with {' or '.join(sorted(expected))}"
                yield Difference(kind="other type", column=name, rows=rows, of=of, said=said)
    for one in model.state.spec.fields:
        unseen, values = requests.unseen[one.name], requests.values[one.name]
        bound = _TIMES * upper_share(golden.unseen[one.name], golden.values[one.name]) + _MORE
        if values and unseen > bound * values:
            said = (
                f"{unseen / values:.1%} of the values of field {one.name} have no id; of the golden rows "
                f"{golden.unseen[one.name]:,} of {golden.values[one.name]:,}"
            )
            yield Difference(kind="unseen values", column=one.source, rows=unseen, of=values, said=said)


def _alike(kind: str, column: str) -> str:
    """Integers and numbers are one type where numbers are read."""
    return "number" if column in ("number", "count") and kind in ("integer", "boolean") else kind


def upper_share(count: int, of: int) -> float:
    """Upper end of Wilson's interval of a share, four standard errors wide; 1 without values."""
    if not of:
        return 1.0
    share, z = count / of, _DEVIATIONS
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return min(1.0, (share + z * z / (2 * of) + spread) / (1 + z * z / of))
