"""What small tables save and cost: a trained candidate packed in each way, on the same later rows.

    python -m benchmarks.packing.small_tables --candidate candidates/VERSION --state states/KEY \\
        --holdout datasets/KEY --work DIR [--rounds 5] [--rows 4000000]

Bytes of the tables and of the whole artifact, seconds to load it, p50 and p99 of a request of 200 candidates, and
quality on the hold-out. Then a table of --rows embeddings of width 32 alone: mapped, looked up at random.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.parquet as pq

from nightjar import serving
from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import GOLDEN_RAW, SCORING
from nightjar.features.contract.manifests import ArtifactManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.encoder.files import read_array
from nightjar.serving.arrays import write_array
from nightjar.serving.evaluation.comparison import compare
from nightjar.serving.packing.config import ArtifactConfig
from nightjar.serving.packing.pack import pack
from nightjar.serving.packing.small_tables import to_int8
from nightjar.serving.tables import EmbeddingTable

CANDIDATES, REQUESTS, WIDTH = 200, 300, 32
CONFIGS = {
    "float32": ArtifactConfig(),
    "float16, wide float16": ArtifactConfig(embeddings="float16", wide="float16"),
    "int8": ArtifactConfig(embeddings="int8"),
    "int8, wide bfloat16": ArtifactConfig(embeddings="int8", wide="bfloat16"),
}


def requests_of(artifact: str) -> dict[str, float]:
    """Seconds to load, and p50 and p99 of a request in milliseconds, in this process."""
    began = time.perf_counter()
    model = serving.load(artifact)
    loaded = time.perf_counter() - began
    golden = pq.read_table(storage.join(artifact, GOLDEN_RAW))
    rng = np.random.default_rng(1)
    drawn = [golden.take(rng.integers(0, golden.num_rows, CANDIDATES)).combine_chunks() for _ in range(20)]
    seconds = np.empty(REQUESTS)
    for n in range(-20, REQUESTS):
        began = time.perf_counter()
        model.score(drawn[n % 20])
        seconds[n] = time.perf_counter() - began
    return {
        "load": loaded,
        "p50": 1e3 * float(np.median(seconds)),
        "p99": 1e3 * float(np.quantile(seconds, 0.99)),
        "least": 1e3 * float(seconds.min()),
    }


def lookups_of(directory: str) -> dict[str, float]:
    """Of a mapped table: seconds to open it, p50 of 200 random rows in microseconds, and private memory in MiB."""
    began = time.perf_counter()
    scales = os.path.join(directory, "scales.npy")
    table = EmbeddingTable(
        (), read_array(os.path.join(directory, "values.npy")), read_array(scales) if os.path.exists(scales) else None
    )
    opened, rng = time.perf_counter() - began, np.random.default_rng(2)
    draws = rng.integers(0, len(table.weights), (2000, CANDIDATES))
    seconds = np.empty(len(draws))
    for n, rows in enumerate(draws):
        began = time.perf_counter()
        table.vectors(rows)
        seconds[n] = time.perf_counter() - began
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "open": opened,
        "p50": 1e6 * float(np.median(seconds[1000:])),
        "private": int(status["RssAnon"].split()[0]) / 1024,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser(prog="small_tables", description=(__doc__ or "").partition("\n")[0])
    for name in ("candidate", "state", "holdout", "work"):
        parser.add_argument(f"--{name}", help="directory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--once", choices=("requests", "lookups"), help="measure DIRECTORY in this process, print JSON")
    parser.add_argument("directory", nargs="?")
    args = parser.parse_args(argv)
    if args.once:
        print(json.dumps({"requests": requests_of, "lookups": lookups_of}[args.once](args.directory)))
        return 0
    artifacts = {name: os.path.join(args.work, f"artifact-{n}") for n, name in enumerate(CONFIGS)}
    for name, config in CONFIGS.items():
        pack(args.candidate, args.state, args.holdout, artifacts[name], config=config)
    parts: dict[str, list[np.ndarray]] = defaultdict(list)
    evaluation = compare(artifacts, [args.holdout], keep=lambda name, score: parts[name].append(score))
    scores = {name: np.concatenate(of) for name, of in parts.items()}
    print("| tables | MB of tables | MB in all | load, s | p50, ms | p99, ms | least, ms ", end="")
    print("| log loss | AUC | largest move of a score |\n" + "|---" * 10 + "|")
    timed = _measured("requests", artifacts, args.rounds)
    for name, artifact in artifacts.items():
        files = read_manifest(artifact, ArtifactManifest).files
        tables = sum(e.bytes for e in files if e.path.startswith(f"{SCORING}/") and e.path.endswith(".npy"))
        metrics, of = evaluation.models[name].metrics, timed[name]
        moved = np.abs(scores[name] - scores["float32"]).max()
        figures = f"{of['load']:.2f} | {of['p50']:.2f} | {of['p99']:.2f} | {of['least']:.2f}"
        print(f"| {name} | {tables / 1e6:.2f} | {sum(e.bytes for e in files) / 1e6:.2f} | {figures} ", end="")
        print(f"| {metrics.log_loss:.6f} | {metrics.auc:.6f} | {moved:.1e} |")
    print("\n| one table | MB | open, ms | 200 rows, us | private MiB |\n" + "|---" * 5 + "|")
    directories = _tables(args.work, args.rows)
    for name, of in _measured("lookups", directories, args.rounds).items():
        size = sum(entry.stat().st_size for entry in os.scandir(directories[name])) / 1e6
        print(f"| {name} | {size:.0f} | {1e3 * of['open']:.2f} | {of['p50']:.1f} | {of['private']:.0f} |")
    return 0


def _tables(work: str, rows: int) -> dict[str, str]:
    """The same random embeddings in each way, by name a directory."""
    values = np.random.default_rng(0).standard_normal((rows, WIDTH), dtype=np.float32)
    multiples, scales = to_int8(values)
    contents: dict[str, dict[str, np.ndarray]] = {
        "float32": {"values": values},
        "float16": {"values": values.astype(np.float16)},
        "int8": {"values": multiples, "scales": scales},
    }
    found = {name: os.path.join(work, f"table-{name}") for name in contents}
    for name, arrays in contents.items():
        for part, array in arrays.items():
            write_array(os.path.join(found[name], f"{part}.npy"), array)
    return found


def _measured(what: str, directories: dict[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """Medians over the rounds, in each of which every directory has a process of its own."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in directories}
    for _ in range(rounds):
        for name, directory in directories.items():
            command = [sys.executable, "-m", "benchmarks.packing.small_tables", "--once", what, directory]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {name: {key: median(f[key] for f in figures) for key in figures[0]} for name, figures in found.items()}


if __name__ == "__main__":
    raise SystemExit(main())
