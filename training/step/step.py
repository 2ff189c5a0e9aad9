"""One joint step of the wide and the deep part (Cheng et al. 2016, section 3.3).

One logistic loss; its gradient flows into both parts at once. The loss of a step is the SUM over the rows of
the global batch of weight times logistic loss: FTRL takes the gradient of that sum, AdaGrad divides it by the
sum of the weights of the global batch. The head runs on the worker's device; the tables there too (device_rows), or in
the host's memory (host_rows).

Shapes: B rows, E all pooled embeddings of a row side by side, N dense columns.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nightjar.features.contract import liveness
from nightjar.features.contract.layout import TableLayout
from nightjar.training.config import TrainingConfig
from nightjar.training.data.batch import Batch
from nightjar.training.layers.global_batch import GlobalBatch
from nightjar.training.models import build_head, find_model
from nightjar.training.run.collective import Collective, Pending
from nightjar.training.step.device import device_of_worker, to_device
from nightjar.training.step.gradients import HeadGradients
from nightjar.training.step.lookup.device_rows import DeviceRows
from nightjar.training.step.lookup.host_rows import HostRows
from nightjar.training.step.lookup.row_source import Lookup, RowSource
from nightjar.training.step.optimizers import head_optimizer, head_tensors
from nightjar.training.tables.choice import embedding_table, on_device, place, wide_table
from nightjar.training.tables.device_table import DeviceTable
from nightjar.training.tables.table import Table


@dataclass(frozen=True)
class Score:
    """Of rows that the model had not learned from yet: the sums of their weighted log losses and of their
    weights.
    """

    loss: float
    weight: float
    rows: int

    def __add__(self, other: Score) -> Score:
        return Score(self.loss + other.loss, self.weight + other.weight, self.rows + other.rows)

    @property
    def mean(self) -> float:
        """Mean log loss, in nats; NaN where no row has a weight."""
        return self.loss / self.weight if self.weight else math.nan


NOTHING = Score(0.0, 0.0, 0)


def logistic_loss(logit_B: Tensor, label_B: Tensor, weight_B: Tensor) -> Tensor:
    """Sum of weight times log(1 + exp(-s logit)), s = 1 for the label 1 and -1 for 0: in nats, [].

    The same as torch's binary_cross_entropy_with_logits, which asks all threads for a logarithm even of a small batch.

    Args:
        logit_B: of each row.
        label_B: 0 or 1.
        weight_B: of each row.
    """
    return torch.dot(functional.softplus(logit_B * (1.0 - 2.0 * label_B)), weight_B)


class Learner:
    """The tables' shards, the head and its optimizer: all that a step changes."""

    def __init__(self, config: TrainingConfig, layout: TableLayout, collective: Collective) -> None:
        config, model = config.resolved, find_model(config.model)
        self._collective = collective
        self._device = device_of_worker(config.device, collective.rank)
        self.learning_rate_scale = 1.0
        self.head = build_head(config, layout).to(self._device)
        world = (collective.rank, collective.size)
        self.wide: Table | None = None
        if model.wide:
            self.wide = wide_table(place(config.wide, layout.wide_rows, *world), config.wide, config.seed)
        self.embeddings: dict[int, Table] = {}
        for width in layout.embeddings:
            shard = place(config.embeddings, layout.embedding_rows(width), *world)
            self.embeddings[width] = embedding_table(width, shard, config.embeddings, config.seed)
            liveness.advance()
        self.optimizer = head_optimizer(self.head, config.deep)
        self._gradients = HeadGradients(list(self.head.parameters()), collective)
        self._bf16 = config.precision == "bf16"
        self._rows = self._row_source(config)
        self._following: Batch | None = None
        self._requested: tuple[Batch, Pending[Lookup]] | None = None

    def ahead(self, batches: Iterable[Batch]) -> Generator[Batch, None, None]:
        """The same batches; while one is learned from, the ids of the next are on their way to the rows' owners.

        Every worker runs this, and they stop at the same batch if they stop early.
        """
        current: Batch | None = None
        try:
            for following in batches:
                self._following = following
                if current:
                    yield current
                current = following
            self._following = None
            if current:
                yield current
        finally:
            self._following = self._requested = None

    def step(self, batch: Batch) -> Score:
        """Score this worker's share of the global batch, then learn from the whole of it. Every worker calls
        this.
        """
        lookup = self._look_up(batch)
        if self._following:
            self._requested = self._following, self._rows.request(self._following)
        training = GlobalBatch(self._collective, batch.step, self._on_device(batch.keys_B))
        logit_B = self._logits(batch, lookup, training)
        label_B, weight_B = self._on_device(batch.label_B), self._on_device(batch.weight_B)
        loss = logistic_loss(logit_B, label_B, weight_B)
        self._gradients.clear()
        loss.backward()
        self._gradients.flush()
        sums = torch.stack([loss.detach(), weight_B.sum()]).cpu().tolist()
        [loss_sum, weight, rows], learn = lookup.send_gradients(np.array([*sums, batch.rows])).wait()
        self._gradients.finish()
        score = Score(float(loss_sum), float(weight), round(rows))
        if score.weight == 0.0:  # the same on every worker: nothing to learn from
            return score
        if self.optimizer:
            self._gradients.divide(score.weight)
            self.optimizer.step()
        learn(score.weight)
        return score

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Logits float32[B] of this worker's rows; every worker calls this, with rows or without."""
        return self._logits(batch, self._look_up(batch), None).cpu()

    def head_tensors(self) -> dict[str, Tensor]:
        """All that the head and its optimizer remember, live; see training.step.optimizers.head_tensors."""
        return head_tensors(self.head, self.optimizer)

    @property
    def tables(self) -> list[Table]:
        """Those in use: the wide one, then the embeddings."""
        return [*([self.wide] if self.wide else []), *self.embeddings.values()]

    def scale_learning_rates(self, factor: float) -> None:
        """Multiply the learning rates of the tables and of the head."""
        if factor == 1.0:
            return
        self.learning_rate_scale *= factor
        for table in self.tables:
            table.scale_learning_rate(factor)
        for group in self.optimizer.param_groups if self.optimizer else ():
            group["lr"] *= factor

    def _row_source(self, config: TrainingConfig) -> RowSource:
        """Where the tables are looked up and learn; those that are to be on the device become DeviceTables."""
        wide, embeddings = config.wide if self.wide else None, config.embeddings if self.embeddings else None
        if not on_device(config.tables_on, self._device, wide, embeddings):
            return HostRows(self.tables, self.wide, self._collective, self._device)
        moved = DeviceTable(self.wide, self._device) if self.wide else None
        tables = {width: DeviceTable(table, self._device) for width, table in self.embeddings.items()}
        self.wide, self.embeddings = moved, dict(tables)
        return DeviceRows([*([moved] if moved else []), *tables.values()], moved, self._collective, self._device)

    def _look_up(self, batch: Batch) -> Lookup:
        if self._requested and self._requested[0] is batch:
            (_, requested), self._requested = self._requested, None
        else:
            requested = self._rows.request(batch)
        return requested.wait()

    def _logits(self, batch: Batch, lookup: Lookup, training: GlobalBatch | None) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            dense_BN = self._on_device(batch.dense_BN)
            logit_B: Tensor = self.head(lookup.first_order_B, lookup.embeddings_BE, dense_BN, training)
        return logit_B

    def _on_device(self, array: np.ndarray) -> Tensor:
        return to_device(array, self._device)
