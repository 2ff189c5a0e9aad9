"""Examples per second beside other trainers, interleaved, median of five rounds, quality beside speed.

    python -m benchmarks.train --work build/bench --rivals RIVALS/bin/python [wide|deep|loader|workers|vocabulary ...]

wide: lr beside Vowpal Wabbit's FTRL. deep: wide_deep and deepfm beside FBGEMM's tables and DeepCTR-Torch.
loader: the loader beside a bare scan of the same files. workers: two workers beside one, in bf16 and in float32, each
on a core of its own and where the system puts them.
vocabulary: a step's cost from 10^5 to 10^8 rows of tables. RIVALS: an environment of benchmarks/train/requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from benchmarks.train.contestant import Contestant
from benchmarks.train.criteo import DENSE, Criteo
from benchmarks.train.loader import delivered_round, ready_round, scan_round
from benchmarks.train.nightjar import BATCH, SETTINGS
from benchmarks.train.workers import workers_round
from nightjar.training.run.worker import prepare_process

HERE = Path(__file__).parent
TEST_ROWS, TEST_SEED = 65_536, 1_000_000
Round = Callable[[], Mapping[str, float]]


class Data:
    """The generated data sets under a folder, made on first use."""

    def __init__(self, work: str) -> None:
        self._work = work

    def train(self, vocabulary: int, rows: int, dense: int = DENSE, seed: int = 1) -> str:
        return self._made(Criteo(vocabulary, rows, seed, dense))

    def test(self, vocabulary: int, dense: int = DENSE) -> str:
        return self._made(Criteo(vocabulary, TEST_ROWS, TEST_SEED, dense))

    def _made(self, data: Criteo) -> str:
        name = f"{data.vocabulary}-{data.dense}-{data.rows}-{data.seed}"
        directory = str(Path(self._work, name).absolute())
        data.publish(directory)
        return directory


def interleaved(rounds: Mapping[str, Round], repeats: int) -> dict[str, list[Mapping[str, float]]]:
    """Every contestant's rounds, one of each in turn."""
    results: dict[str, list[Mapping[str, float]]] = {name: [] for name in rounds}
    for _ in range(repeats):
        for name, measure in rounds.items():
            results[name].append(measure())
    return results


def show(console: Console, title: str, results: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Median examples per second, the ratio to the first contestant, the spread, processor time (which a busy machine
    does not stretch), the rounds' mean log loss with its deviation where they differ, and what the process held after
    the first and the last round.
    """
    columns = ("contestant", "examples/s", "of the first", "slowest .. fastest", "CPU us/example", "log loss", "MiB")
    table = Table(*columns, title=title)
    first: float | None = None
    for name, rounds in results.items():
        rates = sorted(figures["rows"] / figures["seconds"] for figures in rounds)
        rate = statistics.median(rates)
        first = first or rate
        losses = [figures["log_loss"] for figures in rounds if "log_loss" in figures]
        cpu = [figures["cpu"] / figures["rows"] * 1e6 for figures in rounds if "cpu" in figures]
        spread = f"{rates[0]:,.0f} .. {rates[-1]:,.0f}"
        memory = " .. ".join(f"{rounds[n]['mib']:,.0f}" for n in (0, -1)) if "mib" in rounds[0] else "-"
        quality = f"{statistics.mean(losses):.5f}" if losses else "-"
        if len(set(losses)) > 1:
            quality += f" ± {statistics.stdev(losses):.5f}"
        processor = f"{statistics.median(cpu):.2f}" if cpu else "-"
        table.add_row(name, f"{rate:,.0f}", f"{rate / first:.2f}", spread, processor, quality, memory)
    console.print(table)


def nightjar(
    model: str,
    train: str,
    test: str,
    threads: int,
    settings: Mapping[str, object],
    epochs_before: int = 0,
    rows: Literal["files", "memory"] = "files",
) -> Contestant:
    """Nightjar in a process of its own."""
    arguments = [model, train, test, str(threads), json.dumps(settings), str(epochs_before), rows]
    return Contestant("nightjar", [sys.executable, "-m", "benchmarks.train.nightjar", *arguments])


def contest(contestants: Mapping[str, Contestant], repeats: int) -> dict[str, list[Mapping[str, float]]]:
    """Interleave, then end the processes."""
    try:
        return interleaved({name: contestant.round for name, contestant in contestants.items()}, repeats)
    finally:
        for contestant in contestants.values():
            contestant.close()


def wide(console: Console, data: Data, args: argparse.Namespace) -> None:
    """(a) Every round has rows of its own: how well a pass learns depends on the order of the rows."""
    test, settings = data.test(10**6, dense=0), SETTINGS["wide"]
    assert isinstance(settings, Mapping)
    options = [str(settings[name]) for name in ("alpha", "beta", "lambda1")]
    by_example = {"wide": {**settings, "squares": "examples"}}
    ramp = {"batch_ramp": {"batch_size": 512, "rows": 32_768}}
    results: dict[str, list[Mapping[str, float]]] = {}
    for seed in range(1, args.repeats + 1):
        train = data.train(10**6, args.rows * 4, 0, seed)
        vowpal = [args.rivals, str(HERE / "vowpal.py"), train, test, f"{train}-vowpal-{TEST_SEED}", *options]
        contestants = {
            "nightjar lr": nightjar("lr", train, test, args.threads, {}),
            "nightjar lr, batches of 512": nightjar("lr", train, test, args.threads, {"batch_size": 512}),
            "nightjar lr, 512, examples' squares": nightjar(
                "lr", train, test, args.threads, {**by_example, "batch_size": 512}
            ),
            "nightjar lr, ramp, examples' squares": nightjar("lr", train, test, args.threads, {**by_example, **ramp}),
            "vowpal wabbit --ftrl, cache": Contestant("vowpal", vowpal),
        }
        for name, rounds in contest(contestants, 1).items():
            results.setdefault(name, []).extend(rounds)
    show(console, f"wide only, {args.rows * 4:,} rows, {args.threads} threads", results)


def deep(console: Console, data: Data, args: argparse.Namespace) -> None:
    """(b) FBGEMM's rule is the row-wise one, and its rows wait in memory."""
    embeddings = SETTINGS["embeddings"]
    assert isinstance(embeddings, Mapping)
    for model in args.models:
        for vocabulary in args.vocabularies:
            train, test = data.train(vocabulary, args.rows), data.test(vocabulary)
            ids = str(Criteo(vocabulary, 0, 0).ids_per_field)
            rival = [model, train, test, ids, str(args.threads)]
            row_wise = {"precision": "bf16", "embeddings": {**embeddings, "rule": "row_adagrad"}}
            contestants = {
                "nightjar, bf16 layers": nightjar(model, train, test, args.threads, {"precision": "bf16"}),
                "nightjar, bf16, row_adagrad": nightjar(model, train, test, args.threads, row_wise),
                "nightjar, bf16, row_adagrad, from memory": nightjar(
                    model, train, test, args.threads, row_wise, rows="memory"
                ),
                "nightjar, float32": nightjar(model, train, test, args.threads, {}),
                "fbgemm tables, bf16 layers": Contestant("fbgemm", [args.rivals, str(HERE / "fbgemm.py"), *rival]),
                "deepctr-torch": Contestant("deepctr", [args.rivals, str(HERE / "deepctr.py"), *rival]),
            }
            show(console, f"{model}, {vocabulary:,} ids, {args.threads} threads", contest(contestants, args.repeats))


def loader(console: Console, data: Data, args: argparse.Namespace) -> None:
    """(c)"""
    train = data.train(10**6, args.rows * 4)
    prepare_process(args.threads)  # as every worker does
    rounds: dict[str, Round] = {
        "bare pyarrow scan": partial(scan_round, train),
        "nightjar, batches as delivered": partial(delivered_round, train),
        "nightjar, batches ready for the step": partial(ready_round, train),
    }
    for measure in rounds.values():
        measure()
    show(console, "loader alone", interleaved(rounds, args.repeats))


def workers(console: Console, data: Data, args: argparse.Namespace) -> None:
    """(d)"""
    train, test = data.train(10**6, args.rows), data.test(10**6)
    for model, precision in (("wide_deep", "bf16"), ("wide_deep", "float32"), ("lr", "float32")):
        settings = {"model": model, "precision": precision, "batch_size": args.batch}
        for where, pinned in (("a core each", True), ("on any core", False)):
            rounds: dict[str, Round] = {
                f"{count} worker{'s' * (count > 1)}": partial(workers_round, settings, train, test, count, pinned)
                for count in (1, 2)
            }
            title = f"{model}, {precision}, global batches of {args.batch:,}, one thread each, {where}"
            show(console, title, interleaved(rounds, args.repeats))


def vocabulary(console: Console, data: Data, args: argparse.Namespace) -> None:
    """A step's cost by the size of the tables, in the second epoch: in the first one the system still has to find the
    memory of rows that have not been touched.
    """
    sizes = (10**5, 10**6, 10**7, 10**8)
    contestants = {
        f"{size:,} ids": nightjar(
            "wide_deep", data.train(size, args.rows // 2), data.test(size), args.threads, {"precision": "bf16"}, 1
        )
        for size in sizes
    }
    show(console, "wide_deep by vocabulary", contest(contestants, args.repeats))


PARTS = {"wide": wide, "deep": deep, "loader": loader, "workers": workers, "vocabulary": vocabulary}


def main() -> int:
    """Run the parts asked for, or all."""
    parser = argparse.ArgumentParser(prog="benchmarks.train", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them if none is named")
    parser.add_argument("--work", required=True, help="folder for the generated data")
    parser.add_argument("--rivals", default=sys.executable, help="python of the rivals' environment")
    parser.add_argument("--rows", type=int, default=393_216, help="rows of a round of the deep models")
    parser.add_argument("--models", nargs="+", default=["wide_deep", "deepfm"], help="of the part `deep`")
    parser.add_argument("--vocabularies", nargs="+", type=int, default=[10**6, 10**7], help="of the part `deep`")
    parser.add_argument("--batch", type=int, default=BATCH, help="rows of a global batch of the part workers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    console = Console(soft_wrap=True)
    console.width = max(console.width, 130)
    for part in args.parts or PARTS:
        PARTS[part](console, Data(args.work), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
