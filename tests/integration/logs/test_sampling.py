"""Negative down-sampling: what is kept, what it weighs, and what never notices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from nightjar.features.contract.manifests import DatasetManifest, StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import FeatureSpec, Sampling
from nightjar.features.dataset.build import build
from nightjar.features.dataset.plan import BuildDates, plan_build

ROWS, RATE, SCALE = 2000, 0.2, 8192
DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
PLAIN = FeatureSpec.model_validate(
    {
        "name": "sampled",
        "label": "clicked",
        "timestamp": "at",
        "truth": "number",
        "fields": [{"name": "user"}],
        "dense": [{"name": "number", "column": "value", "quantiles": 5}],
    }
)


def write_logs(root: Path) -> pa.Table:
    """Three days; `number` tells every row; a request has four rows, and every tenth row none."""
    rng = np.random.default_rng(5)
    tables = []
    for day, date in enumerate(DAYS):
        number = np.arange(ROWS) + day * ROWS
        table = pa.table(
            {
                "clicked": (rng.random(ROWS) < 0.1).astype(np.int32),
                "at": pa.array(np.full(ROWS, np.datetime64(f"{date}T12:00:00", "us"))),
                "number": number / SCALE,
                "user": [f"u{n % 50}" for n in number],
                "request": [None if n % 10 == 0 else f"r{n // 4}" for n in number],
                "value": rng.normal(size=ROWS),
                "w": np.full(ROWS, 3.0),
            }
        )
        (root / f"date={date}").mkdir(parents=True)
        pq.write_table(table, root / f"date={date}/part.parquet")
        tables.append(table)
    return pa.concat_tables(tables)


def built(spark: SparkSession, place: Path, spec: FeatureSpec) -> tuple[pa.Table, pa.Table, StateManifest]:
    """Encoded training rows, encoded hold-out rows, the state."""
    plan = plan_build(
        spec,
        str(place / "logs"),
        str(place / "out"),
        BuildDates(train_from=DAYS[0], train_to=DAYS[1], holdout=DAYS[2], history_from=DAYS[0]),
    )
    features = build(spark, plan)
    tables = []
    for directory in (features.train_dir, str(features.holdout_dir)):
        manifest = read_manifest(directory, DatasetManifest)
        tables.append(pa.concat_tables(pq.read_table(f"{directory}/{entry.path}") for entry in manifest.data_files))
        assert len(tables[-1]) == manifest.rows
        assert sum(tables[-1].column("label").to_pylist()) == manifest.positives
    return tables[0], tables[1], read_manifest(features.state_dir, StateManifest)


def test_negatives_are_sampled_by_row_or_request_and_weigh_more(spark: SparkSession, tmp_path: Path) -> None:
    log = write_logs(tmp_path / "logs").to_pandas().set_index("number")
    trained = log[log.index < 2 * ROWS / SCALE]
    whole, _, state = built(spark, tmp_path, PLAIN)
    assert len(whole) == 2 * ROWS
    assert "weight" not in whole.column_names

    for request, weight in ((None, "w"), ("request", None)):
        sampling = Sampling(negatives=RATE, request=request)
        spec = PLAIN.model_copy(update={"sampling": sampling, "weight": weight})
        own = 3.0 if weight else 1.0
        rows, holdout, sampled_state = built(spark, tmp_path, spec)
        assert sampled_state.boundaries == state.boundaries
        assert sampled_state.vocabulary_sizes == state.vocabulary_sizes
        assert len(holdout) == ROWS
        assert set(holdout.column("weight").to_pylist()) == {own}

        kept = rows.to_pandas().set_index("truth")
        assert kept.index.is_unique
        label = trained.clicked
        if request:
            units = trained.request.fillna(trained.index.to_series().astype(str))
            label = label.groupby(units).transform("max")
            of_kept = units.loc[kept.index]
            sizes = of_kept.groupby(of_kept).size()
            assert sizes.equals(units.groupby(units).size()[sizes.index])
        certain, drawn = kept[label.loc[kept.index] == 1], kept[label.loc[kept.index] == 0]
        assert set(certain.index) == set(label[label == 1].index)
        assert set(certain.weight) == {own}
        assert set(drawn.weight) == {np.float32(own / RATE)}
        candidates = (label == 0).sum()
        # Binomial; rows of a request stand and fall together, four of them at most.
        deviation = np.sqrt(candidates * RATE * (1 - RATE) * (4 if request else 1))
        assert abs(len(drawn) - RATE * candidates) < 4 * deviation
