"""Packing a candidate: what goes in, what is refused, and that nothing half-made is ever published."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from nightjar import serving
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import ArtifactManifest, CandidateManifest, DatasetManifest, Lineage
from nightjar.features.contract.publishing import commit, describe_files, is_published, read_manifest
from nightjar.jobs.pack_model import main
from nightjar.serving.packing import dry_run
from nightjar.serving.packing.pack import pack
from nightjar.training.config import TrainingConfig
from nightjar.training.models import model_columns
from tests.kits.serving.serving_kit import World, make_candidate, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def pack_it(world: World, output: Path) -> ArtifactManifest:
    return pack(
        world.candidate,
        world.state,
        world.holdout,
        str(output),
        lineage=Lineage.model_validate({"date": "2024-05-03", "ticket": 7}),
    )


def republish(directory: str, kind: type[CandidateManifest] | type[DatasetManifest], **changes: object) -> None:
    """Write the manifest again, for the files as they are now."""
    manifest = read_manifest(directory, kind)
    commit(directory, manifest.model_copy(update={"files": describe_files(directory), **changes}))


def with_golden_scores(world: World, root: Path, scores: np.ndarray) -> World:
    candidate = make_candidate(root, world.state, world.model, scores)
    return World(world.state, world.holdout, candidate, world.rows, world.model)


def test_an_artifact_holds_what_scoring_needs_and_nothing_else(world: World, tmp_path: Path):
    manifest = pack_it(world, tmp_path / "artifact")
    top = {path.partition("/")[0] for path in (entry.path for entry in manifest.files)}
    assert top == {"scoring", "encoder", "golden"}
    published = json.loads((tmp_path / "artifact/manifest.json").read_text())["lineage"]
    assert (published["date"], published["settings"], published["parent"]) == ("2024-05-03", {"epochs": 1}, None)
    assert published["ticket"] == 7  # a key of the user's own
    assert "beside" not in published  # not known
    assert read_manifest(str(tmp_path / "artifact"), ArtifactManifest).lineage == manifest.lineage
    weights = np.load(tmp_path / "artifact/scoring/wide_weights.npy")
    ids = np.load(tmp_path / "artifact/scoring/wide_ids.npy")
    assert np.all(weights != 0)
    assert list(ids) == sorted(i for i, weight in world.model.wide.items() if weight)


def test_the_same_inputs_give_the_same_bytes_wherever_they_are(world: World, tmp_path: Path):
    pack_it(world, tmp_path / "one/artifact")
    moved = tmp_path / "elsewhere"
    for name in ("state", "holdout", "candidate"):
        shutil.copytree(tmp_path / name, moved / name)
    again = World(str(moved / "state"), str(moved / "holdout"), str(moved / "candidate"), world.rows, world.model)
    pack_it(again, tmp_path / "two")
    one, two = (tmp_path / name for name in ("one/artifact", "two"))
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()
    assert str(tmp_path) not in (one / "manifest.json").read_text()


def test_packing_again_returns_what_is_published(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = pack_it(world, tmp_path / "artifact")
    monkeypatch.setattr("nightjar.serving.packing.pack.open_model", lambda *_: pytest.fail("packed again"))
    assert pack_it(world, tmp_path / "artifact") == first


def test_another_candidate_never_overwrites_an_artifact(world: World, tmp_path: Path):
    pack_it(world, tmp_path / "artifact")
    other = make_world(tmp_path / "other", seed=2)
    with pytest.raises(DataError, match="published already"):
        pack_it(other, tmp_path / "artifact")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda scores: scores + np.eye(1, len(scores), 3)[0] * 1e-4,
            r"1 of 16 golden scores differ .* row 3",
        ),
        (
            lambda scores: np.where(np.arange(len(scores)) == 2, np.nan, scores),
            "1 of 16 .* not probabilities",
        ),
        (lambda scores: scores + 1.0, "16 of 16 golden scores are not probabilities"),
        (lambda scores: scores[:-1], "16 golden rows but 15 golden scores"),
    ],
    ids=["wrong", "nan", "above one", "too few"],
)
def test_wrong_golden_scores_are_found_by_the_dry_run(world: World, tmp_path: Path, change, message):
    scores = change(world.model.score(world.rows[:16]))
    pack_it(with_golden_scores(world, tmp_path / "wrong", scores), tmp_path / "artifact")
    (problem,) = dry_run.run(str(tmp_path / "artifact")).problems
    assert re.search(message, problem)


def test_a_sound_artifact_is_timed_in_a_fresh_process(world: World, tmp_path: Path):
    pack_it(world, tmp_path / "artifact")
    found = dry_run.run(str(tmp_path / "artifact"))
    assert found.problems == ()
    assert found.measured is not None
    assert found.measured.rows == 16
    assert found.measured.largest_difference <= 1e-5
    assert 0 < found.measured.median_latency <= found.measured.p99_latency
    assert 10 < found.measured.resident_mib < 10_000


def test_an_artifact_that_cannot_be_loaded_is_a_problem_and_not_a_crash(world: World, tmp_path: Path):
    pack_it(world, tmp_path / "artifact")
    (tmp_path / "artifact/scoring/head.onnx").write_bytes(b"no model")
    (problem,) = dry_run.run(str(tmp_path / "artifact")).problems
    assert "damaged: ['scoring/head.onnx']" in problem


def test_a_process_that_dies_is_a_problem_and_not_a_crash(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pack_it(world, tmp_path / "artifact")
    monkeypatch.setattr(dry_run.sys, "executable", "/bin/false")
    assert dry_run.run(str(tmp_path / "artifact")).problems == ("the process ended with status 1: ",)


def test_infinite_weights_are_refused_even_where_no_golden_row_meets_them(world: World, tmp_path: Path):
    path = Path(world.candidate) / "scoring/embedding_2.npy"
    table = np.load(path)
    table[-1] = np.inf
    np.save(path, table)
    republish(world.candidate, CandidateManifest)
    with pytest.raises(DataError, match=r"embedding_2\.npy holds NaN or infinite"):
        pack_it(world, tmp_path / "artifact")
    assert not is_published(str(tmp_path / "artifact"))


def test_tables_that_do_not_fit_the_columns_are_refused(world: World, tmp_path: Path):
    path = Path(world.candidate) / "scoring/embedding_2.npy"
    np.save(path, np.load(path)[:-1])
    republish(world.candidate, CandidateManifest)
    with pytest.raises(DataError, match=r"embedding_2\.npy has the shape"):
        pack_it(world, tmp_path / "artifact")


def test_a_head_that_asks_for_a_missing_table_is_refused(world: World, tmp_path: Path):
    (Path(world.candidate) / "scoring/wide_ids.npy").unlink()
    (Path(world.candidate) / "scoring/wide_weights.npy").unlink()
    republish(world.candidate, CandidateManifest)
    with pytest.raises(DataError, match=r"has no scoring/wide_ids\.npy"):
        pack_it(world, tmp_path / "artifact")


def test_inputs_that_do_not_belong_together_are_refused_with_every_reason(world: World, tmp_path: Path):
    columns = world.columns
    narrower = (*columns[:4], columns[4].model_copy(update={"size": 3}), *columns[5:])
    republish(world.candidate, CandidateManifest, state="0" * 64, columns=narrower)
    for path in (Path(world.holdout) / "golden").iterdir():
        path.unlink()
    republish(world.holdout, DatasetManifest)
    with pytest.raises(DataError) as caught:
        pack_it(world, tmp_path / "artifact")
    message = str(caught.value)
    assert "the candidate was made with the state 000000000000" in message
    assert f"the candidate's columns ['{columns[4].name}'] are not what the state gives" in message
    assert "the hold-out lacks ['golden/raw.parquet', 'golden/encoded.parquet']" in message


@pytest.mark.parametrize("model", ["lr", "deep", "wide_deep"])
def test_a_candidate_of_the_columns_that_its_model_uses_scores_the_same(tmp_path: Path, model: str):
    world = make_world(tmp_path, model)
    used = model_columns(TrainingConfig(model=model), world.columns)
    assert (used == world.columns) == (model == "wide_deep")
    republish(world.candidate, CandidateManifest, columns=used)
    pack_it(world, tmp_path / "artifact")
    scores = serving.load(str(tmp_path / "artifact")).score(world.rows)
    np.testing.assert_allclose(scores, world.model.score(world.rows), rtol=0, atol=1e-6)


def test_an_encoder_that_disagrees_with_spark_is_named_by_column(world: World, tmp_path: Path):
    path = Path(world.holdout) / "golden/encoded.parquet"
    table = pq.read_table(path)
    ids = table.column("f_item").to_numpy().copy()
    ids[0] += 1
    index = table.column_names.index("f_item")
    pq.write_table(table.set_column(index, "f_item", [ids]), path)
    republish(world.holdout, DatasetManifest)
    with pytest.raises(DataError, match=r"otherwise than Spark did, in the columns \['f_item'\]"):
        pack_it(world, tmp_path / "artifact")


def test_a_damaged_candidate_is_named(world: World, tmp_path: Path):
    with (Path(world.candidate) / "scoring/head.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(DataError, match=r"damaged: \['scoring/head.onnx'\]"):
        pack_it(world, tmp_path / "artifact")


def test_a_killed_pack_publishes_nothing_and_the_next_one_ends_the_same(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def killed(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("nightjar.serving.packing.pack.open_model", killed)
        with pytest.raises(KeyboardInterrupt):
            pack_it(world, tmp_path / "artifact")
    assert not is_published(str(tmp_path / "artifact"))
    (tmp_path / "artifact/scoring/left_over.bin").write_bytes(b"x")
    assert pack_it(world, tmp_path / "artifact") == pack_it(world, tmp_path / "again")
    assert not (tmp_path / "artifact/scoring/left_over.bin").exists()


def test_the_job_publishes_and_reports_errors_by_exit_status(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = [
        "--candidate",
        world.candidate,
        "--state",
        world.state,
        "--output",
        str(tmp_path / "artifact"),
    ]
    assert main([*arguments, "--holdout", world.holdout]) == 0
    assert serving.load(str(tmp_path / "artifact")).score(world.rows).shape == (len(world.rows),)
    assert main([*arguments, "--holdout", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("pack_model: error: ")
