"""The replay: every logged row scored again by the model that answered it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.outputs import night_of
from nightjar.features.encoder.encoder import Encoder
from nightjar.features.encoder.rows import hash_rows
from nightjar.serving.raw_values import Row
from nightjar.serving.replay.differences import Difference, Kind, Replayed
from nightjar.serving.replay.inputs import InputTally, input_differences, required_columns, tally_of
from nightjar.serving.replay.logged import Batch, Model
from nightjar.serving.replay.models import Models

TOLERANCE = 1e-6
_TRIED = 500
_NEARLY_ALL = 0.95


@dataclass
class Replay:
    """Scores batches one by one, and says at the end what differed.

    models: those that answered. tolerance: of a score. keep_rows: how many rows stay in `rows`, for a look at their
    day's log, with the `days` that they are of.
    """

    models: Models
    tolerance: float = TOLERANCE
    keep_rows: int = 0
    rows: list[Row] = field(default_factory=list)
    days: set[str] = field(default_factory=set)
    _requests: set[str] = field(default_factory=set)
    _answered: int = 0
    _scored: int = 0
    _reproduced: int = 0
    _largest: float = 0.0
    _by_model: Counter[str] = field(default_factory=Counter)
    _tallies: dict[str, InputTally] = field(default_factory=lambda: defaultdict(InputTally))
    _found: Counter[tuple[Kind, str]] = field(default_factory=Counter)
    _examples: dict[str, str] = field(default_factory=dict)

    def add_all(self, batches: Iterable[Batch]) -> None:
        """Score all batches. Raises DataError if a model is not there any more."""
        for batch in batches:
            self.add(batch)

    def add(self, batch: Batch) -> None:
        """Score a batch, and compare."""
        model = self.models.open(batch.model)
        self._requests.update(batch.requests)
        self._answered += len(batch.rows)
        self._by_model[str(batch.model)] += len(batch.rows)
        if len(self.rows) < self.keep_rows:
            self.rows += batch.rows[: self.keep_rows - len(self.rows)]
            self.days |= {moment.date().isoformat() for moment in batch.at}
        tally = self._tallies[batch.model.version]
        tally.add_rows(batch.rows, required_columns(model))
        self._look_at_pointer(batch)
        refused = batch.errors[0]
        try:
            columns = Encoder(model.state.spec, model.state.encoder).encode(hash_rows(model.state, batch.rows))
        except DataError as error:
            said = f"refused as it was: {refused}" if refused else f"it was answered, but is refused now: {error}"
            self._found["refused request", said] += len(batch.rows)
            return
        if refused:
            self._found["refused request", f"it was refused ({refused}), but is scored now"] += len(batch.rows)
            return
        tally.add_encoded(model, columns)
        self._compare(batch, model.score_encoded(columns))

    def replayed(self, skew: Iterable[Difference] = (), joined: int | None = None) -> Replayed:
        """The outcome. skew, joined: what the day's log adds (serving.replay.skew), and how many rows were found in it.

        A column that the log explains is not reported a second time for its types, its absence or unseen values.
        """
        skew = list(skew)
        explained = {one.column for one in skew}
        inputs = [one for one in self._input_differences() if one.column not in explained]
        answers = [
            Difference(kind=kind, rows=rows, of=self._answered, said=self._with_example(said))
            for (kind, said), rows in self._found.items()
        ]
        return Replayed(
            requests=len(self._requests),
            rows=self._scored,
            reproduced=self._reproduced,
            largest=self._largest,
            joined=joined,
            models=dict(self._by_model),
            differences=(*answers, *inputs, *skew),
        )

    def columns(self) -> list[str]:
        """The columns of the log that a feature of a replayed model reads in requests, without repeats."""
        specs = [self.models.open(Model(version, None, None)).state.spec for version in self._tallies]
        return list(dict.fromkeys(name for spec in specs for name in spec.request_columns(as_logged=False)))

    def _with_example(self, said: str) -> str:
        return f"{said}; {self._examples[said]}" if said in self._examples else said

    def _input_differences(self) -> Iterator[Difference]:
        for version, tally in self._tallies.items():
            model = self.models.open(Model(version, None, None))
            yield from input_differences(model, tally, tally_of(model, self.models.golden(version)))

    def _compare(self, batch: Batch, scores: np.ndarray) -> None:
        difference = np.abs(scores.astype(np.float64) - batch.scores)
        changed = np.flatnonzero(~(difference <= self.tolerance))
        self._scored += len(scores)
        self._reproduced += len(scores) - len(changed)
        self._largest = max(self._largest, float(np.nan_to_num(difference, nan=1.0).max(initial=0.0)))
        if len(changed):
            other = self._who_answered(batch, changed[:_TRIED])
            if other:
                same = other.version == batch.model.version
                kind: Kind = "other counters" if same else "other model"
                self._found[kind, f"{other} gives the answers that are on record for {batch.model}"] += len(changed)
            else:
                said = f"{batch.model} does not give the answers that are on record"
                first = changed[0]
                self._examples.setdefault(said, f"answered {batch.scores[first]:.7f}, scored {scores[first]:.7f}")
                self._found["changed score", said] += len(changed)

    def _who_answered(self, batch: Batch, changed: np.ndarray) -> Model | None:
        """Another model that gives the scores on record."""
        rows, wanted = [batch.rows[n] for n in changed], batch.scores[changed]
        for other in self.models.alternatives(batch.model):
            try:
                scores = self.models.open(other).score(rows)
            except DataError:  # pruned, or of other columns
                continue
            if np.mean(np.abs(scores - wanted) <= self.tolerance) >= _NEARLY_ALL:
                return other
        return None

    def _look_at_pointer(self, batch: Batch) -> None:
        """Was it what the pointer named? Counted by request time."""
        for moment, rows in Counter(batch.at).items():
            named = self.models.named(moment)
            if named is None or (named.version, named.counters) == (batch.model.version, batch.model.counters):
                continue
            if named.version != batch.model.version:
                said = f"{batch.model.version} answered, when the pointer had named {named.version}"
                self._found["other model", said] += rows
            elif named.counters and (batch.model.as_of or "") < (night_of(named.counters) or ""):
                of = batch.model.counters or "those that the version was packed with"
                said = f"{of} as of {batch.model.as_of}, when the pointer had named {named.counters}"
                self._found["stale counters", said] += rows
