"""One joint step of the wide and the deep part (Cheng et al. 2016, section 3.3).

One logistic loss; its gradient flows into both parts at once. The loss of a step is the SUM over the rows of
the global batch of weight times logistic loss: FTRL takes the gradient of that sum, AdaGrad divides it by the
sum of the weights of the global batch.

Shapes: B rows, E all pooled embeddings of a row side by side, N dense columns, D width, M entries, C cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from features.layout import TableLayout
from training import exchange, kernels
from training.batch import Batch, Entries
from training.collective import Collective
from training.config import TrainingConfig
from training.models import architecture, build_head
from training.tables import EmbeddingTable, Shard, Table, WideTable


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
        model = architecture(config.model)
        self._collective = collective
        self.head = build_head(config.model, layout, config.deep, config.seed)
        self.wide: WideTable | None = None
        if model.wide:
            self.wide = WideTable(self._shard(layout.wide_rows), config.wide)
        self.embeddings: dict[int, EmbeddingTable] = {}
        if model.embeddings:
            for width in layout.embeddings:
                shard = self._shard(layout.embedding_rows(width))
                self.embeddings[width] = EmbeddingTable(width, shard, config.embeddings, config.seed)
        self.parameters = list(self.head.parameters())
        self.optimizer: torch.optim.Adagrad | None = None
        if self.parameters:
            self.optimizer = torch.optim.Adagrad(
                self.parameters,
                lr=config.deep.learning_rate,
                initial_accumulator_value=config.deep.initial_accumulator,
            )

    def step(self, batch: Batch) -> Score:
        """Score this worker's share of the global batch, then learn from the whole of it. Every worker calls
        this.
        """
        lookups = self._look_up(batch)
        logit_B = self._logits(batch, lookups)
        label_B, weight_B = torch.from_numpy(batch.label_B), torch.from_numpy(batch.weight_B)
        loss = (functional.binary_cross_entropy_with_logits(logit_B, label_B, reduction="none") * weight_B).sum()
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        sums = torch.stack([loss.detach(), weight_B.sum(), torch.tensor(float(batch.rows))])
        score = self._reduce(sums)
        if score.weight == 0.0:  # the same on every worker: nothing to learn from
            return score
        if self.optimizer:
            self.optimizer.step()
        exchange.update(lookups, score.weight, self._collective)
        return score

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Logits float32[B] of this worker's rows; every worker calls this, with rows or without."""
        return self._logits(batch, self._look_up(batch))

    def _entries(self, batch: Batch) -> list[Entries]:
        """The entries of each table in use: the wide one, then the embeddings."""
        return [batch.wide] * (self.wide is not None) + [batch.embeddings[width] for width in self.embeddings]

    def _look_up(self, batch: Batch) -> list[exchange.Rows]:
        tables: list[Table] = [*([self.wide] if self.wide else []), *self.embeddings.values()]
        return exchange.look_up(tables, [entries.ids_M for entries in self._entries(batch)], self._collective)

    def _logits(self, batch: Batch, lookups: list[exchange.Rows]) -> Tensor:
        pooled = [pool(*pair) for pair in zip(lookups, self._entries(batch), strict=True)]
        first_order_B = pooled.pop(0).squeeze(1) if self.wide else torch.zeros(batch.rows)
        embeddings_BE = torch.cat(pooled, dim=1) if pooled else torch.zeros(batch.rows, 0)
        return self.head(first_order_B, embeddings_BE, torch.from_numpy(batch.dense_BN))

    def _reduce(self, sums: Tensor) -> Score:
        """Make the head's gradients means over the global batch, in one message together with the batch's
        sums.
        """
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        flat = torch.cat([sums, *(gradient.reshape(-1) for gradient in gradients)])
        self._collective.all_reduce_sum_(flat)
        loss, weight, rows = flat[:3].tolist()
        parts = (flat[3:] / (weight or 1.0)).split([p.numel() for p in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return Score(loss, weight, round(rows))

    def _shard(self, rows: int) -> Shard:
        return Shard(rows, self._collective.rank, self._collective.size)


def pool(rows: exchange.Rows, entries: Entries) -> Tensor:
    """[B, fields * D]: the weighted sum of each cell's rows, the cells of a batch row side by side."""
    pooled_CD: Tensor = _Pool.apply(rows.rows_UD, rows.index_M, entries)
    return pooled_CD.view(entries.rows, entries.fields * pooled_CD.shape[1])


class _Pool(torch.autograd.Function):
    """Sparse matrix [C, U] times rows_UD; the matrix is given by the entries of the batch."""

    @staticmethod
    def forward(ctx: Any, rows_UD: Tensor, index_M: Any, entries: Entries) -> Tensor:
        ctx.index_M, ctx.entries, ctx.rows = index_M, entries, len(rows_UD)
        rows = rows_UD.detach().numpy()
        return torch.from_numpy(
            kernels.scatter(rows, index_M, entries.cells_M, entries.coefficients_M, entries.rows * entries.fields)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        entries, gradient_CD = ctx.entries, gradients[0].contiguous().numpy()
        out = kernels.scatter(gradient_CD, entries.cells_M, ctx.index_M, entries.coefficients_M, ctx.rows)
        return torch.from_numpy(out), None, None
