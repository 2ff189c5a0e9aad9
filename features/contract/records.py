"""What one part writes and another reads beside manifests, or within them: records of a training, of a warm start and
of a night.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from nightjar.features.contract import storage
from nightjar.features.contract.strict import Date, FileName, Strict, Version


class ProgressRecord(Strict):
    """Progressive validation up to a step. step: global batches since the run's first; epoch: from 0.

    rows, log_loss: of the epoch so far; recent_log_loss, rows_per_second: since the last record; a loss is None where
    no row had a weight. memory_bytes: resident, of the worker of rank 0.
    """

    kind: Literal["progress"] = "progress"
    step: int
    epoch: int
    rows: int
    log_loss: float | None
    recent_log_loss: float | None
    rows_per_second: float
    memory_bytes: int
    learning_rate_scale: float


class ValidationRecord(Strict):
    """Held-out metrics after a step; see contract.metrics.registry.Quality. best: no validation before was better."""

    kind: Literal["validation"] = "validation"
    step: int
    epoch: int
    rows: int
    seconds: float
    log_loss: float
    normalized_entropy: float | None
    auc: float | None
    gauc: float | None
    calibration: float | None
    best: bool
    learning_rate_scale: float


Record = ProgressRecord | ValidationRecord
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def record_line(record: Record) -> str:
    """A record as a line of JSON."""
    return json.dumps(record.model_dump(mode="json")) + "\n"


def read_records(path: str) -> list[Record]:
    """The records of a JSON-lines file, in order; none if there is no file. A last line that a killed run left
    unfinished is not one.
    """
    lines = storage.read_bytes(path).decode().splitlines(keepends=True) if storage.exists(path) else []
    return [_RECORD.validate_json(line) for line in lines if line.endswith("\n")]


class SlotCoverage(Strict):
    """The rows of a column in one table, `wide` or `embedding_<width>`; in the parent's, if the new model lacks it.

    rows = carried + new; parent_rows = carried + dropped. The wide table's bias is the slot `bias`. Rows are places for
    values, ids and buckets; of a cross, most have never been touched. A column that kept its name and changed its
    meaning counts as new and as dropped.
    """

    table: str
    slot: str
    renamed_from: str | None = None
    parent_rows: int
    rows: int
    carried: int

    @property
    def new(self) -> int:
        """Rows that begin as in a model without a parent."""
        return self.rows - self.carried

    @property
    def dropped(self) -> int:
        """Rows of the parent that have no place any more."""
        return self.parent_rows - self.carried


class TensorCoverage(Strict):
    """A tensor of the head. carried: entries of it that come from the parent: all, some or none."""

    tensor: str
    shape: tuple[int, ...]
    carried: int

    @property
    def how(self) -> str:
        """`carried`, `in part` or `fresh`."""
        if self.carried == prod(self.shape):
            return "carried"
        return "in part" if self.carried else "fresh"


class RuleCoverage(Strict):
    """The rule of a part, `wide`, `embeddings` or `head`; parent_rule: the parent's, if it has the part."""

    part: str
    rule: str
    parent_rule: str | None

    @property
    def state(self) -> str:
        """What it remembers beside the weights: `carried` from the same rule, else `fresh`."""
        return "carried" if self.rule == self.parent_rule else "fresh"


class WarmStartReport(Strict):
    """warm_start.json of a candidate: what a warm start carried over, by slot and by tensor.

    parent: name of its candidate; decay: of its sums of squared gradients.
    """

    parent: str
    decay: float
    rules: tuple[RuleCoverage, ...]
    slots: tuple[SlotCoverage, ...]
    head: tuple[TensorCoverage, ...]

    def summary(self) -> str:
        """One line for the log."""
        rows, carried, dropped = (sum(getattr(s, what) for s in self.slots) for what in ("rows", "carried", "dropped"))
        how = [tensor.how for tensor in self.head]
        changed = [rule for rule in self.rules if rule.parent_rule and rule.state == "fresh"]
        return (
            f"warm start from {self.parent}: {carried:,} of {rows:,} rows carried over, {rows - carried:,} new, "
            f"{dropped:,} dropped; of {len(how)} tensors of the head {how.count('carried')} carried over, "
            f"{how.count('in part')} in part, {how.count('fresh')} fresh"
            + "".join(f"; {rule.part}: {rule.rule} begins, after {rule.parent_rule}" for rule in changed)
        )


class StepSeconds(Strict):
    """How long each step of a night took when it was carried out last, in seconds by step."""

    seconds: Mapping[str, float]


NightVerdict = Literal["published", "rejected", "superseded"]
"""What became of a night's model. `superseded`: the gate let it through, but another champion than the one that it was
compared with had come in between, and stays."""


class HookEvent(Strict):
    """What the hook is told of a night. run: its id; message: why a model was not published, or what failed.

    version, champion, report: the night's model, the champion after it, and the page of its evaluation; absent of a
    night that failed.
    """

    event: NightVerdict | Literal["failed"]
    date: str
    run: str
    output: str
    message: str
    version: str | None = None
    champion: str | None = None
    report: str | None = None


class CodeVersion(Strict):
    """What a model was made with. sources: digest of the package's files; libraries: versions by name."""

    version: str
    sources: str
    libraries: Mapping[str, str]


class NightStart(Strict):
    """What a night's models begin with: with `parent`, a version; or with nothing, because of `reason`."""

    parent: Version | None = None
    reason: str = ""

    @property
    def how(self) -> Literal["warm", "cold"]:
        """`warm` with a parent, else `cold`."""
        return "warm" if self.parent else "cold"

    def __str__(self) -> str:
        return f"{self.how}: {self.parent or self.reason}"

    @classmethod
    def parse(cls, text: str) -> NightStart:
        """The inverse of `str`."""
        how, _, rest = text.partition(": ")
        return cls(parent=rest) if how == "warm" else cls(reason=rest)


class DayRows(Strict):
    """A day's rows. in_files: as the files' own footers say, None where only reading tells; counted, positives: of its
    aggregate; left_out: by reason.
    """

    date: Date
    in_files: int | None
    counted: int
    positives: int
    left_out: Mapping[str, int] = {}


class EncodedRows(Strict):
    """A data set's rows. read: of its days' log; kept: after sampling; files: rows of each file."""

    directory: FileName
    read: int | None
    kept: int
    positives: int
    files: tuple[int, ...]


class TrainedRows(Strict):
    """A model's rows. epochs: those of its config; an early stop ends before them. rows: over all epochs."""

    model: str
    epochs: int
    rows: int
    held_out: bool


class Ledger(Strict):
    """ledger.json of a night: its rows, from the log to the gradient and to the verdict.

    days: of training and, last, the one that is judged. evaluated: of the night's model and its baselines; judged: by
    the gate, None if it looked at no row. finished: rows of the judged day that the finished model has learned, None if
    there is none.
    """

    days: tuple[DayRows, ...]
    train: EncodedRows
    holdout: EncodedRows
    trained: tuple[TrainedRows, ...]
    evaluated: int
    judged: int | None
    finished: int | None = None

    def problems(self) -> list[str]:
        """Where one step has other rows than the one before; empty if they agree."""
        *train, judged = self.days
        found = [
            f"date {day.date}: its files hold {day.in_files} rows; {sum(day.left_out.values())} were left out and "
            f"{day.counted} counted"
            for day in self.days
            if day.in_files not in (None, day.counted + sum(day.left_out.values()))
        ]
        for encoded, days in ((self.train, train), (self.holdout, [judged])):
            counted, positives = sum(day.counted for day in days), sum(day.positives for day in days)
            # Only training days are sampled.
            lost = encoded is self.holdout and encoded.kept < counted
            if lost or encoded.read not in (None, counted) or encoded.kept > counted or encoded.positives != positives:
                found.append(
                    f"{encoded.directory}: {counted} rows with {positives} positives were counted; {encoded.read} were "
                    f"read, and {encoded.kept} with {encoded.positives} encoded"
                )
            if sum(encoded.files) != encoded.kept:
                found.append(f"{encoded.directory}: its files hold {sum(encoded.files)} rows, not {encoded.kept}")
        for model in self.trained:
            most = model.epochs * self.train.kept
            if model.rows > most or (model.rows < most and not model.held_out):
                epochs = f"{model.epochs} epochs of {self.train.kept} are {most}"
                found.append(f"{model.model} has trained on {model.rows} rows; {epochs}")
        if self.holdout.kept != self.evaluated or self.judged not in (None, self.evaluated):
            found.append(
                f"{self.holdout.kept} rows of the day were encoded, {self.evaluated} evaluated, {self.judged} judged"
            )
        if self.finished not in (None, self.holdout.kept):
            found.append(
                f"the finish has learned {self.finished} rows of the day, of which {self.holdout.kept} were encoded"
            )
        return found
