"""What a warm start carried over, by slot and by tensor: warm_start.json of a candidate."""

from __future__ import annotations

from math import prod

from nightjar.features.contract.strict import Strict

FILE = "warm_start.json"


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
    """A warm start. parent: name of its candidate; decay: of its sums of squared gradients."""

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
