"""Candidates scored by Spark get what serving answers, to the bit; every row once, or the best of each request."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import nightjar
from nightjar.features.contract.artifact_files import SCORES
from nightjar.features.contract.publishing import is_published, read_manifest, verify
from nightjar.jobs import score_candidates
from nightjar.jobs.common.cli import EXIT_ERROR, EXIT_NOTHING_TO_DO
from nightjar.jobs.scoring.score import ScoresManifest
from nightjar.serving import registry
from nightjar.serving.packing.pack import pack
from tests.kits.serving.serving_kit import make_rows, make_world
from tests.kits.serving.serving_oracle import Row

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

VERSION = "2024-05-03-wide_deep-0000"
ROWS, COPIES = 500, 60


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Candidates of forty requests; some are there twice."""
    rng = np.random.default_rng(2)
    made = [{**row, "request": int(rng.integers(40)), "place": n} for n, row in enumerate(make_rows(ROWS, 7))]
    return [*made, *made[:COPIES]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, rows: list[Row], spark: SparkSession) -> Path:
    """A registry with a champion, and the candidates in three files."""
    place = tmp_path_factory.mktemp("place")
    world = make_world(place / "world")
    pack(world.candidate, world.state, world.holdout, str(place / "models" / VERSION))
    registry.promote(str(place / "models"), VERSION, "by hand")
    (place / "candidates").mkdir()
    whole = pa.Table.from_pylist(rows)
    for n, begin in enumerate((0, 200, 201)):
        stop = (200, 201, len(rows))[n]
        pq.write_table(whole.slice(begin, stop - begin), place / "candidates" / f"{n}.parquet", row_group_size=64)
    return place


def score(place: Path, output: str, *more: str, candidates: str = "candidates") -> int:
    return score_candidates.main(
        [
            "--models",
            str(place / "models"),
            "--candidates",
            str(place / candidates),
            "--output",
            str(place / output),
            *more,
        ]
    )


def written(place: Path, output: str) -> list[dict[str, Any]]:
    """What is published, its files compared with the manifest."""
    manifest = read_manifest(str(place / output), ScoresManifest)
    verify(str(place / output), manifest)
    table = pq.read_table(place / output / SCORES)
    assert table.num_rows == manifest.rows == sum(entry.rows or 0 for entry in manifest.files)
    return table.to_pylist()


def answers(place: Path, rows: list[Row]) -> list[float]:
    """What serving says of each row by itself, in a table of its own."""
    model = nightjar.load_champion(str(place / "models"))
    whole = pa.Table.from_pylist(rows)
    return [float(model.score(whole.slice(n, 1))[0]) for n in range(len(rows))]


def test_every_row_has_the_score_that_serving_answers(place: Path, rows: list[Row]) -> None:
    assert score(place, "all", "--keep", "place", "user") == 0
    found = written(place, "all")
    assert list(found[0]) == ["place", "user", "score"]
    expected = sorted(
        (row["place"], row["user"] or "", one) for row, one in zip(rows, answers(place, rows), strict=True)
    )
    assert sorted((row["place"], row["user"] or "", row["score"]) for row in found) == expected
    assert len({one for *_, one in expected}) > 300
    assert score(place, "all", "--keep", "place", "user") == EXIT_NOTHING_TO_DO


def test_the_best_of_a_request_are_ranked(place: Path, rows: list[Row]) -> None:
    assert score(place, "best", "--keep", "place", "--best-of", "request", "--k", "3") == 0
    by_request = defaultdict(list)
    for row, one in zip(rows, answers(place, rows), strict=True):
        by_request[row["request"]].append((-one, row["place"]))
    expected = {
        (request, rank, n, -one)
        for request, of in by_request.items()
        for rank, (one, n) in enumerate(sorted(of)[:3], 1)
    }
    assert {(row["request"], row["rank"], row["place"], row["score"]) for row in written(place, "best")} == expected
    assert read_manifest(str(place / "best"), ScoresManifest).candidates == len(rows)


def test_a_run_that_was_killed_is_started_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(Exception):
        pass

    def die(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr("nightjar.jobs.scoring.score.commit", die)
        with pytest.raises(KilledError):
            score(place, "killed", "--keep", "place")
    assert not is_published(str(place / "killed"))
    assert score(place, "killed", "--keep", "place") == 0
    assert len(written(place, "killed")) == ROWS + COPIES


def test_rows_that_come_in_meanwhile_are_told(
    place: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "growing").mkdir()
    whole = pa.Table.from_pylist(rows)
    pq.write_table(whole.slice(0, 100), place / "growing" / "0.parquet")
    # Between the look at the files and their reading.
    monkeypatch.setattr(
        "nightjar.jobs.scoring.score.begin",
        lambda _: pq.write_table(whole.slice(0, 7), place / "growing" / "1.parquet"),
    )
    assert score(place, "grown", "--keep", "place", candidates="growing") == EXIT_ERROR
    assert "hold 100 rows, of which 107 were scored" in capsys.readouterr().err
    assert not is_published(str(place / "grown"))


def test_json_candidates_are_read_by_their_declared_types(place: Path, rows: list[Row]) -> None:
    given = [{**row, "age": None if row["age"] != row["age"] else row["age"]} for row in rows[:80]]
    (place / "lines").mkdir()
    (place / "lines" / "0.json").write_text("".join(json.dumps(row) + "\n" for row in given))
    types = dict.fromkeys(("item_id", "depth", "pair_impressions_so_far", "pair_positives_so_far", "place"), "bigint")
    types |= {"user": "string", "premium": "boolean", "age": "double", "price": "double"}
    types |= {"seen": "array<bigint>", "tags": "array<string>", "words": "array<string>"}
    (place / "input.yaml").write_text(yaml.safe_dump({"input": {"format": "json", "columns": types}}))
    config = ["--config", str(place / "input.yaml")]
    assert score(place, "of_lines", "--keep", "place", *config, candidates="lines") == 0
    found = {row["place"]: row["score"] for row in written(place, "of_lines")}
    assert [found[row["place"]] for row in given] == answers(place, given)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--keep", "plce"], "Did you mean 'place' for 'plce'?"),
        (["--keep", "place", "--k", "3"], "--best-of and --k belong together"),
        (["--keep", "place", "--version", "2024-05-04-lr-0000"], "holds no published version '2024-05-04-lr-0000'"),
        (["--keep", "place", "--version", "../world/candidate"], "holds no published version '../world/candidate'"),
        (["--keep", "score"], "the scores have columns of these names"),
    ],
)
def test_a_mistake_is_told_before_spark_starts(
    place: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightjar.jobs.common.spark_session.spark_session", None)
    assert score(place, "never", *more) == EXIT_ERROR
    assert said in capsys.readouterr().err
    assert not (place / "never").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop_columns(["item_id"]), "item_id"),
        (lambda table: table.set_column(0, "user", pa.array([[1]] * len(table))), "user"),
        (lambda table: table.select([]), "cannot be scored"),
    ],
    ids=["a column is missing", "a column is a list", "no columns"],
)
def test_candidates_that_the_model_cannot_take_are_refused(
    place: Path, rows: list[Row], change: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(change(pa.Table.from_pylist(rows)), tmp_path / "0.parquet")
    assert score(place, "refused", "--keep", "place", candidates=str(tmp_path)) == EXIT_ERROR
    assert said in capsys.readouterr().err
