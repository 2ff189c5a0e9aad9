"""FBGEMM's fused CPU tables and the same layers in plain PyTorch, bf16. Runs in the rivals' environment.

    python fbgemm.py MODEL TRAIN_DIR TEST_DIR IDS_PER_FIELD THREADS

The wide weight of an id is one more column of its embedding (rows of 20 for 16 + 1: FBGEMM wants multiples of 4), so
that a step looks every id up once. Row-wise AdaGrad, FBGEMM's fast rule; rows wait in memory, without a loader.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from itertools import pairwise

import torch
from contestant import cpu_seconds, serve
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_training import ComputeDevice, SplitTableBatchedEmbeddingBagsCodegen
from rows import in_memory, log_loss
from torch import Tensor, nn
from torch.nn import functional

BATCH, WIDTH, PADDED = 4096, 16, 20


class Network(nn.Module):
    def __init__(self, model: str, fields: int, dense: int, ids: int) -> None:
        super().__init__()
        self.tables = SplitTableBatchedEmbeddingBagsCodegen(
            [(ids, PADDED, EmbeddingLocation.HOST, ComputeDevice.CPU)] * fields,
            optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            learning_rate=0.02,
            eps=1e-10,
            pooling_mode=PoolingMode.SUM,
        )
        self.tables.init_embedding_weights_uniform(-0.02, 0.02)
        self.fm, self.fields = model == "deepfm", fields
        sizes = [fields * WIDTH + dense, 400, 400, 400]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(400, 1, bias=False))
        self.wide_dense = nn.Linear(dense, 1)

    def forward(self, ids_BF: Tensor, dense_BN: Tensor) -> Tensor:
        rows, fields = ids_BF.shape
        offsets = torch.arange(rows * fields + 1)
        found_BFP = self.tables(ids_BF.t().reshape(-1), offsets).view(rows, fields, PADDED)
        vectors_BFD = found_BFP[:, :, :WIDTH]
        logit_B = found_BFP[:, :, WIDTH].sum(dim=1) + self.wide_dense(dense_BN).squeeze(1)
        if self.fm:
            sum_BD = vectors_BFD.sum(dim=1)
            logit_B = logit_B + 0.5 * (sum_BD.square() - vectors_BFD.square().sum(dim=1)).sum(dim=1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            deep_B = self.layers(torch.cat([vectors_BFD.reshape(rows, -1), dense_BN], dim=1)).squeeze(1)
        return logit_B + deep_B.float()


def main() -> None:
    model, train, test, ids, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    ids_BF, dense_BN, label_B = map(torch.from_numpy, in_memory(train))

    def measure() -> Mapping[str, float]:
        network = Network(model, ids_BF.shape[1], dense_BN.shape[1], int(ids))
        head = [*network.layers.parameters(), *network.wide_dense.parameters()]
        optimizer = torch.optim.Adagrad(head, lr=0.02, initial_accumulator_value=1e-3, foreach=True)
        before, began = cpu_seconds(), time.perf_counter()
        for rows in torch.randperm(len(label_B)).split(BATCH):
            logit_B = network(ids_BF[rows], dense_BN[rows])
            loss = functional.binary_cross_entropy_with_logits(logit_B, label_B[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        figures = {"seconds": time.perf_counter() - began, "cpu": cpu_seconds() - before, "rows": len(label_B)}
        return {**figures, "log_loss": held_out(network, test)}

    measure()  # warms up, as Nightjar does
    serve(measure)


@torch.no_grad()
def held_out(network: Network, test: str) -> float:
    ids_BF, dense_BN, label_B = map(torch.from_numpy, in_memory(test))
    parts = zip(ids_BF.split(BATCH), dense_BN.split(BATCH), strict=True)
    logit_B = torch.cat([network(ids, dense) for ids, dense in parts])
    return log_loss(label_B.numpy(), logit_B.numpy())


if __name__ == "__main__":
    main()
