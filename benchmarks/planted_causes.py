"""Does an explanation name the cause that the generator planted?

    python -m benchmarks.planted_causes --model build/nightly/models/VERSION --log build/nightly/logs/date=2026-01-06

The generator gives some pairs of an installed and a shown app an effect on the logit that no attribute tells
(jobs/imports/simulation.py, `pairs`). Of rows of a day that the model has not learned from, where these effects do not
cancel out, it counts in how many one of the pairs is among the first three contributions of `model.explain`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

import nightjar
from nightjar.features.encoder.hashing import hash_long
from nightjar.jobs.imports.simulation_config import SimulationConfig

FIRST = 3


def pair_effects(config: SimulationConfig) -> np.ndarray:
    """Effect of each installed app on each shown app, in logits: float64[pair_apps, pair_apps]."""
    truth, n = config.truth, config.truth.pair_apps
    of_seed = int(hash_long(np.array([config.seed])).view(np.uint64)[0])
    tag = np.array([xxhash.xxh64_intdigest(b"pair", of_seed)], dtype=np.uint64).view(np.int64)
    installed, shown = np.divmod(np.arange(n * n), n)
    hashed = hash_long(shown, hash_long(installed, np.repeat(tag, n * n)))
    u = ((hashed.view(np.uint64) >> np.uint64(11)) * 2.0**-53).reshape(n, n)
    effects = np.where(u < truth.pair_share, -truth.pair_effect, 0.0)
    effects[u < truth.pair_share / 2] = truth.pair_effect
    np.fill_diagonal(effects, -truth.pair_effect)
    return effects


def planted(row: dict[str, Any], effects: np.ndarray) -> dict[str, float]:
    """The row's pairs with an effect, by the name that an explanation gives them."""
    number = {app: int(app[1:]) for app in (*row["installed_apps"], row["app_id"])}
    shown = number[row["app_id"]]
    if shown >= len(effects):
        return {}
    pairs = {app: effects[number[app], shown] for app in row["installed_apps"] if number[app] < len(effects)}
    return {f"installed={app} & app={row['app_id']}": float(effect) for app, effect in pairs.items() if effect}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the shares."""
    parser = argparse.ArgumentParser(prog="planted_causes", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="directory of an artifact")
    parser.add_argument("--log", required=True, help="folder of a generated day that it has not learned from")
    parser.add_argument("--seed", type=int, default=7, help="of the generator")
    parser.add_argument("--rows", type=int, default=600, help="rows with a planted cause that are explained")
    args = parser.parse_args(argv)
    config = SimulationConfig(seed=args.seed)
    effects, model = pair_effects(config), nightjar.load(args.model)
    log = pa.concat_tables([pq.ParquetFile(file).read() for file in sorted(Path(args.log).glob("*.parquet"))])
    rows = named = leading = agreeing = 0
    for place in np.random.default_rng(0).permutation(log.num_rows).tolist():
        (row,) = log.slice(place, 1).to_pylist()
        causes = planted(row, effects)
        total = sum(causes.values())
        if abs(total) < config.truth.pair_effect:
            continue
        found = model.explain(row, as_logged=True)
        first = [name for c in found.contributions[:FIRST] for name in c.name.split(" | ")]
        of_cross = found.by_feature().get("installed_x_app", 0.0)
        rows += 1
        named += any(cause in first for cause in causes)
        leading += next(iter(found.by_feature())) == "installed_x_app"
        agreeing += bool(np.sign(of_cross) == np.sign(total))
        if rows == args.rows:
            break
    for said, count in (
        (f"a planted pair is among the first {FIRST} contributions", named),
        ("the cross is the first of all features", leading),
        ("the cross has the sign of the planted effects", agreeing),
    ):
        print(f"{said}: {count} of {rows} rows, {100 * count / max(rows, 1):.1f} %")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
