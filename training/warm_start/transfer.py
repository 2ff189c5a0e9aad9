"""What goes where in a warm start, from the vocabularies and the layouts of both models.

Shapes: P rows of a parent's slot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import HEAD_STATE, WIDE, embedding
from nightjar.features.contract.layout import BIAS, Slot, TableLayout
from nightjar.features.contract.manifests import CandidateManifest, StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.records import (
    RuleCoverage,
    SlotCoverage,
    TensorCoverage,
    WarmStartReport,
)
from nightjar.features.contract.verified import entry_at, read_verified, verify_files
from nightjar.features.encoder.files import read_arrays
from nightjar.features.encoder.state import VocabularyFiles
from nightjar.training.config import TrainingConfig
from nightjar.training.models import find_model
from nightjar.training.run.collective import Collective
from nightjar.training.tables.table import Table
from nightjar.training.warm_start.columns import matching_columns
from nightjar.training.warm_start.head import HeadShape, TensorMap, fill_head, tensor_maps
from nightjar.training.warm_start.ids import IdsByValue
from nightjar.training.warm_start.rows import Passage, RowMap
from nightjar.training.warm_start.tables import TableTransfer

BIAS_PASSAGE = Passage(start=BIAS, size=1, target=BIAS)
Slots = Mapping[str, Slot]
"""By the name of the column."""


@dataclass(frozen=True)
class Side:
    """One of the two models: its encoder state, its settings, its tables' layout."""

    state_dir: str
    state: StateManifest
    config: TrainingConfig
    layout: TableLayout

    @property
    def wide(self) -> Slots | None:
        """The wide table's slots; None for a model without one."""
        return {slot.column.name: slot for slot in self.layout.wide} if find_model(self.config.model).wide else None

    @property
    def embeddings(self) -> Mapping[int, Slots]:
        """The slots of each embedding table that the model has, by width."""
        if not find_model(self.config.model).embeddings:
            return {}
        return {width: {slot.column.name: slot for slot in slots} for width, slots in self.layout.embeddings.items()}

    @cached_property
    def head(self) -> HeadShape:
        """The head's tensors."""
        return HeadShape.of(self.config, self.layout)

    @property
    def rules(self) -> Mapping[str, str | None]:
        """The rules of the parts that the model has."""
        config = self.config
        rules = {"wide": config.wide.rule, "embeddings": config.embeddings.rule, "head": config.deep.optimizer}
        has = {"wide": self.wide is not None, "embeddings": bool(self.embeddings), "head": bool(self.head.shapes)}
        return {part: rule for part, rule in rules.items() if has[part]}

    def vocabulary(self, column: str) -> VocabularyFiles:
        """The values of the field, or the conjunctions of the exact cross, in this column."""
        return VocabularyFiles.of(self.state_dir, self.state, column)


@dataclass(frozen=True)
class Transfer:
    """From a parent, the published candidate at `directory`, to a child."""

    directory: str
    parent: Side
    child: Side
    decay: float

    def fill(
        self, wide: Table | None, embeddings: Mapping[int, Table], head: Mapping[str, Tensor], collective: Collective
    ) -> WarmStartReport:
        """Carry everything over into fresh tables and a fresh head, and say what; every worker calls this.

        What is not carried over stays as it is. The result does not depend on the number of workers. Raises DataError
        if a file of the parent or of a state is damaged.

        Args:
            wide: None: the child has none.
            embeddings: by width.
            head: its live tensors and its optimizer's, by `<state>/<name>`.
            collective: the workers.
        """
        manifest = read_manifest(self.directory, CandidateManifest)
        # Rows are read by the worker that sends them, a block at a time: each file is compared as a whole before.
        verify_files(self.directory, manifest.files[collective.rank :: collective.size])
        collective.barrier()
        tables, ids = TableTransfer(self.directory, manifest, self.decay, collective), self._ids(collective)
        before, now = self.parent.config, self.child.config
        if wide and self.parent.wide is not None:
            passages = [BIAS_PASSAGE, *self._passages(self.parent.wide, self.child.wide or {}, ids).values()]
            tables.wide(wide, before.wide, now.wide, RowMap(passages, ids))
        for width, table in embeddings.items():
            for parent_width, slots in self.parent.embeddings.items():
                passages = list(self._passages(slots, self.child.embeddings[width], ids).values())
                if passages:
                    rows = RowMap(passages, ids)
                    tables.embeddings(table, parent_width, before.embeddings, now.embeddings, rows)
        content = read_verified(self.directory, entry_at(self.directory, manifest, HEAD_STATE))
        same_rule = before.deep.optimizer == now.deep.optimizer
        source = read_arrays(content, storage.join(self.directory, HEAD_STATE))
        fill_head(head, source, self._tensors, self.decay, same_rule=same_rule)
        return self._report(ids)

    def report(self, collective: Collective) -> WarmStartReport:
        """What `fill` carries over, without reading the parent's tables; every worker calls this."""
        return self._report(self._ids(collective))

    def _report(self, ids: IdsByValue) -> WarmStartReport:
        slots: list[SlotCoverage] = []
        if self.child.wide is not None:
            known = int(self.parent.wide is not None)
            slots.append(SlotCoverage(table=WIDE, slot="bias", parent_rows=known, rows=1, carried=known))
            slots += self._coverage({WIDE: self.parent.wide or {}}, {WIDE: self.child.wide}, ids)
        theirs, ours = (
            {embedding(width): slots for width, slots in side.embeddings.items()} for side in (self.parent, self.child)
        )
        slots += self._coverage(theirs, ours, ids)
        maps = self._tensors
        head = [
            TensorCoverage(tensor=name, shape=shape, carried=maps[name].carried if name in maps else 0)
            for name, shape in self.child.head.shapes.items()
        ]
        rules = tuple(
            RuleCoverage(part=part, rule=rule or "", parent_rule=self.parent.rules.get(part))
            for part, rule in self.child.rules.items()
        )
        name = self.directory.rpartition("/")[2]
        return WarmStartReport(parent=name, decay=self.decay, rules=rules, slots=tuple(slots), head=tuple(head))

    def _coverage(
        self, theirs: Mapping[str, Slots], ours: Mapping[str, Slots], ids: IdsByValue
    ) -> Iterator[SlotCoverage]:
        """Of tables that rows may move between."""
        everything = {name: slot for slots in theirs.values() for name, slot in slots.items()}
        taken = {self._columns.get(name) for slots in ours.values() for name in slots}
        gone = everything.keys() - taken
        for table, slots in ours.items():
            passages = self._passages(everything, slots, ids)
            for name, slot in slots.items():
                passage = passages.get(name)
                before = passage or (everything[name] if name in gone else None)
                yield SlotCoverage(
                    table=table,
                    slot=name,
                    renamed_from=self._columns[name] if passage and self._columns[name] != name else None,
                    parent_rows=before.size if before else 0,
                    rows=slot.size,
                    carried=ids.carried.get(name, passage.size) if passage else 0,
                )
        named = {name for slots in ours.values() for name in slots}
        for table, slots in theirs.items():
            for name, slot in slots.items():
                if name in gone - named:
                    yield SlotCoverage(table=table, slot=name, parent_rows=slot.size, rows=0, carried=0)

    def _passages(self, theirs: Slots, ours: Slots, ids: IdsByValue) -> dict[str, Passage]:
        """By the child's column, the way of the rows of each slot that both have."""
        passages = {}
        for name, slot in ours.items():
            known = theirs.get(self._columns.get(name, ""))
            if known:
                # Hashed crosses differ in size by the id of what is not admitted, which is the last one.
                size = known.size if name in ids.first else min(known.size, slot.size)
                passages[name] = Passage(known.offset, size, slot.offset, ids.first.get(name))
        return passages

    @cached_property
    def _columns(self) -> Mapping[str, str]:
        return matching_columns(self.parent.state.spec, self.child.state.spec)

    @cached_property
    def _tensors(self) -> Mapping[str, TensorMap]:
        return tensor_maps(self.parent.head, self.child.head, self._columns)

    def _ids(self, collective: Collective) -> IdsByValue:
        """Of the vocabularies that both have, by the child's column."""
        spec = self.child.state.spec
        by_value = [f"f_{field.name}" for field in spec.fields]
        by_value += [f"x_{cross.name}" for cross in spec.crosses if cross.vocabulary == "exact"]
        vocabularies = {
            name: (self.parent.vocabulary(self._columns[name]), self.child.vocabulary(name))
            for name in by_value
            if name in self._columns
        }
        return IdsByValue(vocabularies, collective)
