"""What a worker holds of the vocabularies follows its share of them, and what comes of it does not."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.publishing import describe_files
from nightjar.features.encoder.state import VocabularyFiles
from nightjar.training.run.collective import Collective
from nightjar.training.warm_start import ids as warm_ids
from nightjar.training.warm_start.ids import DROPPED, IdsByValue
from tests.kits.training.cluster import run_cluster

VALUES, FILES = 200_000, 64


def write(directory: Path, hashes: np.ndarray, ids: np.ndarray, files: int = FILES) -> VocabularyFiles:
    """In files as Spark writes them: in the order of the hashes as they are given, one range a file."""
    directory.mkdir()
    for n, part in enumerate(np.array_split(np.arange(len(hashes)), files)):
        table = pa.table({"hash": hashes[part], "id": pa.array(ids[part], pa.int32())})
        pq.write_table(table, directory / f"part-{n:05d}.parquet")
    return VocabularyFiles(str(directory), describe_files(str(directory)), 2 + len(hashes), 1)


def make_pair(root: Path, values: int, files: int, *, in_order: bool) -> tuple[VocabularyFiles, VocabularyFiles]:
    """Three quarters of the values are in both; ids are dealt to all at random."""
    rng = np.random.default_rng(5)
    hashes = np.unique(rng.integers(-(2**63), 2**63 - 1, values + values // 3))
    pair = []
    for name in ("parent", "child"):
        drawn = rng.permutation(hashes)[:values]
        ids = 2 + rng.permutation(values)
        pair.append(write(root / name, np.sort(drawn) if in_order else drawn, ids, files))
    return pair[0], pair[1]


def by_hash(vocabulary: VocabularyFiles) -> dict[int, int]:
    parts = [vocabulary.read(n) for n in range(len(vocabulary))]
    return {h: i for hashes, ids in parts for h, i in zip(hashes.tolist(), ids.tolist(), strict=True)}


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(("files", "in_order"), [(1, True), (5, True), (4, False)])
def test_every_id_becomes_that_of_its_value_whoever_read_it(
    world: int, files: int, in_order: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two columns; more files than workers, and fewer; a share of the questions to each, and none to the last."""
    monkeypatch.setattr(warm_ids, "BLOCK_VALUES", 50)
    columns = {}
    for name, values in (("f_user", 301), ("f_item", 40)):
        (tmp_path / name).mkdir()
        columns[name] = make_pair(tmp_path / name, values, files, in_order=in_order)

    def look_up(collective: Collective) -> tuple[dict[str, int], dict[str, dict[int, int]]]:
        ids, found = IdsByValue(columns, collective), {}
        for name, (parent, _) in columns.items():
            asked = np.arange(parent.size)[collective.rank :: max(1, collective.size - 1)]
            asked = asked if collective.rank < max(1, collective.size - 1) else asked[:0]
            came = ids.look_up(ids.first[name] + asked)
            found[name] = dict(zip(asked.tolist(), came.tolist(), strict=True))
        return ids.carried, found

    workers = run_cluster(world, look_up)
    for name, (parent, child) in columns.items():
        theirs = by_hash(child)
        expected = {0: 0, 1: 1} | {i: theirs.get(h, DROPPED) for h, i in by_hash(parent).items()}
        assert {key: value for _, found in workers for key, value in found[name].items()} == expected
        carried = sum(value != DROPPED for value in expected.values())
        assert {counts[name] for counts, _ in workers} == {carried}
        assert 0 < carried < parent.size


def test_a_worker_holds_its_share_of_a_vocabulary_and_no_more(tmp_path: Path) -> None:
    """All workers are in this process: of four that held it whole, memory would be four times that of one."""
    pair = make_pair(tmp_path, VALUES, FILES, in_order=True)

    def peak(world: int) -> float:
        """Bytes a value, of all workers together."""
        tracemalloc.start()
        try:
            assert all(run_cluster(world, lambda collective: bool(IdsByValue({"f_user": pair}, collective).carried)))
            return tracemalloc.get_traced_memory()[1] / VALUES
        finally:
            tracemalloc.stop()

    peak(1)  # what is loaded once
    alone, together = peak(1), peak(4)
    assert alone < 22
    assert together < 1.25 * alone
