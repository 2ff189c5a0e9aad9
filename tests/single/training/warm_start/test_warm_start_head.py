"""Weights of the head go by what they connect."""

from __future__ import annotations

import io
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Solo
from tests.kits.training.warm_start_kit import (
    CHOICES,
    OUTPUT,
    SPEC,
    TRAINING,
    VALUES,
    Old,
    Place,
    begin,
    make_place,
    named_rows,
    warm,
)


def test_running_averages_go_by_unit(olds: dict[str, Old]) -> None:
    old = olds["lazy adam, batch norm"]
    deep = CHOICES["lazy adam, batch norm"]["deep"] | {"layers": [9, 4]}
    started = begin(old.place, warm(old, old.place), Solo(), deep=deep).head_tensors()
    source = np.load(io.BytesIO((Path(old.candidate) / "optimizer/head.npz").read_bytes()))
    for name, beginning in (("running_mean", 0.0), ("running_var", 1.0)):
        ours = started[f"values/deep.layers.hidden.0.norm.{name}"].numpy()
        theirs = source[f"values/deep.layers.hidden.0.norm.{name}"]
        assert (theirs != beginning).all()
        np.testing.assert_array_equal(ours, [*theirs, *[beginning] * 3])


def test_permuted_ids_and_a_wider_head_score_as_the_parent_does(old: Old, tmp_path: Path) -> None:
    """Values that the parent knows, encoded under other ids, with a field more and more units in both layers."""
    spec = {**SPEC, "fields": [{"name": "hour", "embedding": 4}, *SPEC["fields"]]}
    place = make_place(tmp_path, spec, {"hour": range(24), **VALUES}, seed=3)
    learner = begin(place, warm(old, place), Solo(), deep={**TRAINING["deep"], "layers": [9, 5]})
    parent = begin(old.place, warm(old, old.place), Solo())
    rng = np.random.default_rng(0)
    chosen = {name: [rng.choice(list(v)) for _ in range(20)] for name, v in VALUES.items()}
    dense = torch.from_numpy(rng.random((20, 8), dtype=np.float32))
    scores = []
    for model, where in ((parent, old.place), (learner, place)):
        rows = named_rows(where)
        embedded, first_order = [], torch.zeros(20)
        for width, slots in where.layout.embeddings.items():
            table = model.embeddings[width].state()["values"]
            for slot in slots:
                values = chosen.get(slot.column.feature, [5] * 20)
                source = where.spec.field(slot.column.feature).source
                picked = [rows[f"embedding_{width}"]["field", source, v] for v in values]
                embedded.append(torch.from_numpy(table[picked]))
        scores.append(model.head(first_order, torch.cat(embedded, dim=1), dense).detach())
    assert scores[0].std() > 0.001
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-5, atol=1e-6)


def test_the_head_goes_by_feature(old: Old, new: Place) -> None:
    source = np.load(io.BytesIO((Path(old.candidate) / "optimizer/head.npz").read_bytes()))
    fresh, started = (begin(new, start, Solo()).head_tensors() for start in (None, warm(old, new)))

    def inputs(place: Place) -> list[Hashable]:
        sources = {field.name: field.source for field in place.spec.fields}
        embedded = [
            (sources[s.column.feature], d)
            for width, slots in place.layout.embeddings.items()
            for s in slots
            for d in range(width)
        ]
        return [*embedded, *(m for m in named_rows(place)["wide"] if m[0] == "dense")]

    theirs, ours = inputs(old.place), inputs(new)
    shared = [meaning for meaning in ours if meaning in theirs]
    assert {("item", 2), ("user_id", 3), ("dense", ("price", "log"))} <= set(shared)
    assert ("item", 3) not in shared
    for state in ("values", "accumulators"):
        key = f"{state}/deep.layers.hidden.0.linear.weight"
        for unit in range(6):
            for n, meaning in enumerate(ours):
                otherwise = 0.0 if state == "values" else fresh[key][unit, n]
                expected = source[key][unit, theirs.index(meaning)] if meaning in theirs else otherwise
                assert started[key][unit, n] == expected
        for name in ("deep.layers.hidden.0.linear.bias", "deep.layers.hidden.1.linear.weight", OUTPUT):
            np.testing.assert_array_equal(started[f"{state}/{name}"].detach(), source[f"{state}/{name}"])


@pytest.mark.parametrize(
    ("deep", "fresh"),
    [
        ({"layers": [6, 4, 3]}, {"deep.layers.hidden.2.linear.weight", "deep.layers.hidden.2.linear.bias", OUTPUT}),
        ({"layers": [6]}, {OUTPUT}),
        ({"layers": [6, 4], "activation": "tanh"}, None),
    ],
)
def test_layers_that_are_not_the_parents_start_afresh(old: Old, deep: dict[str, Any], fresh: set[str] | None) -> None:
    config = TrainingConfig.model_validate(TRAINING | {"deep": deep})
    job = TrainingJob(config, old.place.dataset, "", warm_start=warm(old, old.place))
    transfer = job.transfer(read_manifest(old.place.dataset, DatasetManifest))
    assert transfer is not None
    found = {tensor.tensor for tensor in transfer.report(Solo()).head if tensor.how == "fresh"}
    assert found == (fresh or {tensor.tensor for tensor in transfer.report(Solo()).head})
