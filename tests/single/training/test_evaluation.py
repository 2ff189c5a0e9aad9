"""Held-out metrics over several workers against scikit-learn on all rows together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.metrics.registry import Quality
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.encoder.hashing import MISSING
from nightjar.training.config import TrainingConfig
from nightjar.training.data.dataset import Dataset
from nightjar.training.data.plan import Plan
from nightjar.training.evaluation.evaluation import Predictions, evaluate, measure, predict
from nightjar.training.run.collective import Received, Solo
from nightjar.training.step.step import Learner
from tests.kits.metric_kit import gauc_by_loops
from tests.kits.training.cluster import ThreadCollective, run_cluster
from tests.kits.training.datasets import SPEC, make_dataset

GROUPED = SPEC.model_copy(update={"group": "user"})


def draw(rows: int, kind: str, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    score = {
        "ties": np.round(rng.beta(1, 3, rows), 2),
        "distinct": rng.random(rows),
        "one value": np.full(rows, 0.3),
        "extremes": rng.choice([0.0, 1e-40, 1e-7, 0.5, 1.0], rows),
    }[kind].astype(np.float32)
    label = (rng.random(rows) < 0.2 + 0.5 * score).astype(np.float32)
    weight = rng.choice([0.0, 0.5, 1.0, 3.0], rows).astype(np.float32)
    group = rng.integers(-(2**62), 2**62, 40)[rng.integers(40, size=rows)]
    one_class = group == group[0]
    label[one_class] = 1.0
    group[rng.random(rows) < 0.1] = MISSING
    return Predictions(score, label, weight, group)


def shared_out(whole: Predictions, bounds: Sequence[int], collective: ThreadCollective | Solo) -> Quality:
    part = slice(bounds[collective.rank], bounds[collective.rank + 1])
    assert whole.group is not None
    return measure(Predictions(whole.score[part], whole.label[part], whole.weight[part], whole.group[part]), collective)


@pytest.mark.parametrize("kind", ["ties", "distinct", "one value", "extremes"])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_metrics_of_all_workers_are_scikit_learns_of_all_rows(kind: str, world: int) -> None:
    """Shares are uneven, and the last of three or more workers has no rows."""
    whole = draw(1500, kind, seed=world)
    bounds = {1: [0, 1500], 2: [0, 400, 1500], 3: [0, 1, 1500, 1500], 4: [0, 700, 701, 1500, 1500]}[world]
    found = run_cluster(world, lambda collective: shared_out(whole, bounds, collective))
    label, score, weight = (array.astype(np.float64) for array in (whole.label, whole.score, whole.weight))
    assert whole.group is not None
    clipped = np.clip(score, 1e-7, 1 - 1e-7)
    assert found[0].auc == pytest.approx(roc_auc_score(label, score, sample_weight=weight), rel=1e-12)
    assert found[0].log_loss == pytest.approx(log_loss(label, clipped, sample_weight=weight), rel=1e-12)
    heavy = weight > 0
    gauc = gauc_by_loops(label[heavy], score[heavy], whole.group[heavy], weight[heavy])
    assert found[0].gauc == pytest.approx(gauc, rel=1e-12)
    rate = np.average(label, weights=weight)
    entropy = -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)
    assert found[0].normalized_entropy == pytest.approx(found[0].log_loss / entropy, rel=1e-12)
    assert found[0].calibration == pytest.approx(np.average(score, weights=weight) / rate, rel=1e-12)
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_leaves_what_compares_classes_undefined(label: float) -> None:
    whole = draw(60, "ties")
    single = Predictions(whole.score, np.full(60, label, np.float32), whole.weight, whole.group)
    [found, _] = run_cluster(2, lambda collective: shared_out(single, [0, 20, 60], collective))
    assert (found.auc, found.gauc, found.gauc_share, found.normalized_entropy) == (None, None, None, None)
    assert (found.calibration is None) == (label == 0.0)


class Counting(ThreadCollective):
    """Counts the rows that came."""

    def __init__(self, other: ThreadCollective) -> None:
        super().__init__(other.rank, other.size, other._meeting)
        self.rows = 0

    def all_to_all(self, tensors: Sequence[Tensor], splits: Sequence[Sequence[int]]) -> list[Received]:
        received = super().all_to_all(tensors, splits)
        self.rows = max(self.rows, *(len(tensor) for tensor, _ in received))
        return received


@pytest.mark.parametrize(("kind", "most"), [("distinct", 0.4), ("one value", 0.4), ("ties", 0.4)])
def test_no_worker_receives_what_all_predicted(kind: str, most: float) -> None:
    whole = draw(8000, kind)

    def work(collective: ThreadCollective) -> int:
        counting = Counting(collective)
        shared_out(whole, [0, 2000, 4000, 6000, 8000], counting)
        return counting.rows

    assert max(run_cluster(4, work)) < most * 8000


def test_rows_without_weight_or_scores_that_are_not_finite_are_errors() -> None:
    whole = draw(10, "ties")
    with pytest.raises(DataError, match="held-out rows have no weight"):
        measure(Predictions(whole.score, whole.label, np.zeros_like(whole.weight), None), Solo())
    with pytest.raises(UsageError, match="training diverged"):
        measure(Predictions(np.full_like(whole.score, np.nan), whole.label, np.ones(10, np.float32), None), Solo())


@pytest.mark.parametrize("world", [1, 3])
def test_every_held_out_row_is_scored_once_and_beside_its_own_group(world: int, tmp_path: Path) -> None:
    """Two files, so that of three workers one has nothing to read."""
    manifest = make_dataset(str(tmp_path / "held"), [70, 0, 45], spec=GROUPED)
    dataset = Dataset.of(str(tmp_path / "held"), read_manifest(str(tmp_path / "held"), DatasetManifest), grouped=True)
    plan = Plan(dataset.rows, 16, 8, seed=5)

    def work(collective: ThreadCollective) -> tuple[Predictions, Quality]:
        learner = Learner(TrainingConfig(model="lr"), dataset.layout, collective)
        return predict(learner, dataset, plan, collective), evaluate(learner, dataset, plan, collective)

    found = run_cluster(world, work)
    rows = np.concatenate([p.weight for p, _ in found]).astype(np.float64)
    assert sorted(np.round((rows - 1) * 2**20).astype(int).tolist()) == list(range(115))
    labels, groups = (np.concatenate([getattr(p, name) for p, _ in found]) for name in ("label", "group"))
    assert labels.sum() == manifest.positives
    assert len(np.unique(groups)) > 5
    # Labels depend on the user, which is the group: a third of the groups has far more of them.
    user = (groups + 10**16) // 10**15
    assert labels[user % 3 == 0].mean() > 2 * labels[user % 3 != 0].mean()
    assert {quality for _, quality in found} == {found[0][1]}
    assert found[0][1].auc == 0.5
    assert (found[0][1].log_loss, found[0][1].gauc) == (pytest.approx(np.log(2)), 0.5)
