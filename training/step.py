"""One joint step of the wide and the deep part (Cheng et al. 2016, section 3.3).

One logistic loss; its gradient flows into both parts at once. The loss of a step is the SUM over the rows of
the global batch of weight times logistic loss: FTRL takes the gradient of that sum, AdaGrad divides it by the
sum of the weights of the global batch. The head runs on the worker's device; tables, and the kernels that pool their
rows and sum the rows' gradients, in the host's memory.

Shapes: B rows, E all pooled embeddings of a row side by side, N dense columns, U distinct rows of a table.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from features.layout import TableLayout
from training import exchange, replication
from training.batch import Batch
from training.collective import Collective
from training.config import TrainingConfig
from training.device import device_of_worker
from training.gradients import HeadGradients
from training.models import architecture, build_head
from training.models.global_batch import GlobalBatch
from training.optimizers import head_optimizer, head_tensors
from training.pooling import gradient_of_rows, pool
from training.tables import Table, embedding_table, place, wide_table


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


class Learner:
    """The tables' shards, the head and its optimizer: all that a step changes."""

    def __init__(self, config: TrainingConfig, layout: TableLayout, collective: Collective) -> None:
        config, model = config.resolved, architecture(config.model)
        self._collective = collective
        self._device = device_of_worker(config.device, collective.rank)
        self.learning_rate_scale = 1.0
        self.head = build_head(config.model, layout, config.deep, config.seed).to(self._device)
        world = (collective.rank, collective.size)
        self.wide: Table | None = None
        if model.wide:
            self.wide = wide_table(place(config.wide, layout.wide_rows, *world), config.wide, config.seed)
        self.embeddings: dict[int, Table] = {}
        for width in layout.embeddings:
            shard = place(config.embeddings, layout.embedding_rows(width), *world)
            self.embeddings[width] = embedding_table(width, shard, config.embeddings, config.seed)
        self.optimizer = head_optimizer(self.head, config.deep)
        self._gradients = HeadGradients(list(self.head.parameters()), collective)
        self._bf16 = config.precision == "bf16"
        # Where each table's cells begin among those that are pooled into the same array.
        fields = [len(layout.embeddings[width]) * width for width in self.embeddings]
        self._inputs = sum(fields)
        self._starts = [0] * (self.wide is not None) + np.cumsum([0, *fields])[:-1].tolist()
        self._requested: dict[int, tuple[Batch, replication.Request | None]] = {}

    def ahead(self, batches: Iterable[Batch]) -> Generator[Batch, None, None]:
        """The same batches; while one is learned from, the ids of the next are on their way to the rows' owners.

        Every worker runs this, and they stop at the same batch if they stop early.
        """
        following: Batch | None = None
        try:
            for batch in batches:
                self._requested[id(batch)] = batch, self._request(batch)
                if following:
                    yield following
                following = batch
            if following:
                yield following
        finally:
            self._requested.clear()  # of a batch that is never learned from: another may get its id

    def step(self, batch: Batch) -> Score:
        """Score this worker's share of the global batch, then learn from the whole of it. Every worker calls
        this.
        """
        lookups = self._look_up(batch)
        first_order_B, embeddings_BE = (pooled.requires_grad_() for pooled in self._pool(batch, lookups))
        training = GlobalBatch(self._collective, batch.step, self._on_device(batch.keys_B))
        logit_B = self._logits(batch, first_order_B, embeddings_BE, training)
        label_B, weight_B = self._on_device(batch.label_B), self._on_device(batch.weight_B)
        loss = (functional.binary_cross_entropy_with_logits(logit_B, label_B, reduction="none") * weight_B).sum()
        self._gradients.clear()
        loss.backward()
        gradients = self._row_gradients(lookups, first_order_B.grad, embeddings_BE.grad)
        sent = replication.send_gradients(lookups, gradients, self._collective)
        sums = torch.stack([loss.detach(), weight_B.sum()]).cpu().tolist()
        total = self._gradients.finish(torch.tensor([*sums, batch.rows], dtype=torch.float64))
        score, (lookups, received) = Score(total[0], total[1], round(total[2])), sent.wait()
        if score.weight == 0.0:  # the same on every worker: nothing to learn from
            return score
        if self.optimizer:
            self._gradients.divide(score.weight)
            self.optimizer.step()
        exchange.update(lookups, received, score.weight)
        return score

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Logits float32[B] of this worker's rows; every worker calls this, with rows or without."""
        return self._logits(batch, *self._pool(batch, self._look_up(batch)), None).cpu()

    def head_tensors(self) -> dict[str, Tensor]:
        """All that the head and its optimizer remember, live; see training.optimizers.head_tensors."""
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

    def _request(self, batch: Batch) -> replication.Request:
        entries = [batch.wide] * (self.wide is not None) + [batch.embeddings[width] for width in self.embeddings]
        return replication.request(self.tables, entries, self._collective)

    def _look_up(self, batch: Batch) -> list[exchange.Rows]:
        _, requested = self._requested.pop(id(batch), (batch, None))
        return replication.look_up(self.tables, requested or self._request(batch), self._collective)

    def _pool(self, batch: Batch, lookups: list[exchange.Rows]) -> tuple[Tensor, Tensor]:
        """The wide part's sums [B], and all pooled embeddings of a row side by side [B, E]."""
        first_order_B1 = np.zeros((batch.rows, 1), dtype=np.float32)
        embeddings_BE = np.empty((batch.rows, self._inputs), dtype=np.float32)
        for rows, start in zip(lookups, self._starts, strict=True):
            pool(rows.rows_UD, rows.entries, first_order_B1 if rows.table is self.wide else embeddings_BE, start)
        return self._on_device(first_order_B1[:, 0]), self._on_device(embeddings_BE)

    def _row_gradients(
        self, lookups: list[exchange.Rows], first_order_B: Tensor | None, embeddings_BE: Tensor | None
    ) -> list[np.ndarray]:
        """[U, D] of each table, from the gradients of what `_pool` gave; None: the head made no use of it."""
        wide_B1 = None if first_order_B is None else first_order_B.cpu().numpy()[:, None]
        deep_BE = None if embeddings_BE is None else embeddings_BE.cpu().numpy()
        gradients = []
        for rows, start in zip(lookups, self._starts, strict=True):
            cells = wide_B1 if rows.table is self.wide else deep_BE
            if cells is None:
                gradients.append(np.zeros_like(rows.rows_UD))
            else:
                gradients.append(gradient_of_rows(cells, rows.entries, rows.table.width, start))
        return gradients

    def _logits(
        self, batch: Batch, first_order_B: Tensor, embeddings_BE: Tensor, training: GlobalBatch | None
    ) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            logit_B: Tensor = self.head(first_order_B, embeddings_BE, self._on_device(batch.dense_BN), training)
        return logit_B

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)
