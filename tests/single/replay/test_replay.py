"""Logged requests scored again: every injected skew is found and named, and without one nothing is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nightjar.features.contract.errors import DataError
from nightjar.jobs.replay_requests import main
from nightjar.serving.replay.day_log import columns_of, join
from nightjar.serving.replay.differences import Difference, Replayed
from nightjar.serving.replay.logged import read_log
from nightjar.serving.replay.replay import Replay
from nightjar.serving.replay.skew import find_skew
from tests.kits.serving.requests_kit import (
    DAY,
    KEY,
    NOON,
    SKEWS,
    Place,
    answer,
    kinds,
    make_place,
    models_of,
    name_in_history,
    open_with_counters,
    skews,
)
from tests.kits.serving.serving_oracle import Row


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("place"))


@pytest.fixture
def _clean_history(place: Place) -> None:
    name_in_history(place.models, [("v1", None)])


def replayed(place: Place, requests: str, *, with_logs: bool = False) -> Replayed:
    replay = Replay(models_of(place), keep_rows=10_000 if with_logs else 0)
    replay.add_all(read_log(requests))
    if not with_logs:
        return replay.replayed()
    columns = replay.columns()
    joined = join(place.logs, replay.days, replay.rows, KEY, columns)
    return replay.replayed(find_skew(joined, columns), len(joined.served))


@pytest.fixture
def model(place: Place):
    return open_with_counters(place.models, "v1", None)


def with_skew(place: Place, name: str) -> list[Row]:
    return SKEWS[name][0](place.rows)


@pytest.mark.usefixtures("_clean_history")
def test_requests_as_logged_have_no_difference(place: Place, model, tmp_path: Path) -> None:
    outcome = replayed(place, answer(place.rows, tmp_path, model), with_logs=True)
    assert outcome.differences == ()
    assert (outcome.requests, outcome.rows, outcome.reproduced, outcome.joined) == (30, 300, 300, 300)
    assert outcome.largest == 0.0
    assert outcome.lines()[-1] == "no differences"


@pytest.mark.usefixtures("_clean_history")
@pytest.mark.parametrize(("name", "kind", "column"), list(skews()), ids=list(SKEWS))
def test_every_skew_is_found_and_named(place: Place, model, tmp_path: Path, name: str, kind: str, column: str) -> None:
    outcome = replayed(place, answer(with_skew(place, name), tmp_path, model), with_logs=True)
    assert (kind, column) in kinds(outcome)
    others = {other for _, other in kinds(outcome)} - {column, None}
    assert others == set()
    assert {other for other, _ in kinds(outcome)} <= {kind, "other type", "refused request"}


@pytest.mark.usefixtures("_clean_history")
@pytest.mark.parametrize(
    ("name", "kind", "column"),
    [
        ("a missing column", "missing column", "words"),
        ("an int that became a string", "other type", "item_id"),
        ("booleans as Python writes them", "unseen values", "premium"),
    ],
)
def test_some_skew_is_seen_without_the_days_log(
    place: Place, model, tmp_path: Path, name: str, kind: str, column: str
) -> None:
    assert (kind, column) in kinds(replayed(place, answer(with_skew(place, name), tmp_path, model)))


def test_counters_older_than_those_that_the_pointer_named_are_stale(place: Place, tmp_path: Path) -> None:
    name_in_history(place.models, [("v1", "2024-05-02-aa"), ("v1", "2024-05-03-bb")])
    stale = open_with_counters(place.models, "v1", "2024-05-02-aa")
    outcome = replayed(place, answer(place.rows, tmp_path, stale, counters="2024-05-02-aa"))
    (found,) = outcome.differences
    assert (found.kind, found.rows) == ("stale counters", 300)
    assert found.said == "2024-05-02-aa as of 2024-05-02, when the pointer had named 2024-05-03-bb"
    assert outcome.reproduced == 300


def test_counters_and_models_other_than_those_on_record_are_found_by_their_scores(place: Place, tmp_path: Path) -> None:
    name_in_history(place.models, [("v1", "2024-05-02-aa"), ("v1", "2024-05-03-bb")])
    other = open_with_counters(place.models, "v1", "2024-05-02-aa")
    outcome = replayed(place, answer(place.rows, tmp_path / "counters", other, counters="2024-05-03-bb"))
    assert kinds(outcome) == {("other counters", None)}
    assert outcome.differences[0].said.startswith("v1 with the counters 2024-05-02-aa as of 2024-05-02 gives")
    other = open_with_counters(place.models, "v2", None)
    outcome = replayed(place, answer(place.rows, tmp_path / "model", other, counters="2024-05-03-bb"))
    assert kinds(outcome) == {("other model", None)}
    assert outcome.differences[0].said.startswith("v2 gives the answers")


@pytest.mark.usefixtures("_clean_history")
def test_a_changed_score_is_found_and_one_within_the_tolerance_is_none(place: Place, model, tmp_path: Path) -> None:
    def moved(scores: np.ndarray) -> np.ndarray:
        return scores + np.where(np.arange(len(scores)) == 4, 0.01, 4e-7)

    outcome = replayed(place, answer(place.rows, tmp_path, model, change=moved))
    (found,) = outcome.differences
    assert (found.kind, found.rows, outcome.reproduced) == ("changed score", 30, 270)
    assert outcome.largest == pytest.approx(0.01, abs=1e-6)


def test_a_model_that_the_pointer_did_not_name_is_told(place: Place, model, tmp_path: Path) -> None:
    name_in_history(place.models, [("v1", None), ("v2", None)])
    outcome = replayed(place, answer(place.rows, tmp_path, model))
    assert outcome.differences == (
        Difference(kind="other model", rows=300, of=300, said="v1 answered, when the pointer had named v2"),
    )


@pytest.mark.usefixtures("_clean_history")
def test_a_refused_request_is_told_with_its_reason(place: Place, model, tmp_path: Path) -> None:
    outcome = replayed(place, answer(with_skew(place, "a list that became a string"), tmp_path, model))
    refused = next(one for one in outcome.differences if one.kind == "refused request")
    assert "refused as it was: column 'tags' has the type string; a multi-valued field must be a list" in refused.said
    assert (outcome.rows, refused.rows) == (0, 300)


@pytest.mark.usefixtures("_clean_history")
def test_the_job_says_by_its_status_whether_there_are_differences(
    place: Place, model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--models", place.models]
    sound = answer(place.rows, tmp_path / "sound", model)
    assert main(["--requests", sound, *models]) == 0
    assert "300 scores reproduced" in capsys.readouterr().out
    skewed = answer(with_skew(place, "lower case"), tmp_path / "skewed", model)
    file = tmp_path / "outcome.json"
    logs = ["--logs", place.logs, "--key", *KEY]
    assert main(["--requests", skewed, *models, *logs, "--json", str(file)]) == 3
    assert "letter case: user: " in capsys.readouterr().out
    assert json.loads(file.read_text())["joined"] == 300
    assert main(["--requests", skewed, *models, "--logs", place.logs]) == 3
    assert "letter case: user: " in capsys.readouterr().out
    assert main(["--requests", sound, *models, "--logs", place.logs]) == 0
    assert main(["--requests", sound, *models, "--key", "request"]) == 2
    assert "give --logs, too" in capsys.readouterr().err
    assert main(["--requests", str(tmp_path / "nowhere"), *models]) == 2
    assert "holds no request log" in capsys.readouterr().err


@pytest.mark.usefixtures("_clean_history")
def test_a_key_that_names_several_rows_or_none_is_refused(place: Place) -> None:
    with pytest.raises(DataError, match="names several rows of the log"):
        join(place.logs, [DAY], place.rows, ["request"], ["user"])
    with pytest.raises(DataError, match=r"no request brings \['session'\]"):
        join(place.logs, [DAY], place.rows, ["session"], ["user"])
    with pytest.raises(DataError, match="holds no Parquet file"):
        join(place.logs, ["2020-01-01"], place.rows, KEY, ["user"])
    with pytest.raises(DataError, match=r"lacks the columns \['nothing'\]"):
        join(place.logs, [DAY], place.rows, KEY, ["nothing"])


def test_columns_that_a_side_table_brings_are_not_compared_with_the_log(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    assert columns_of(place.logs, [DAY], ["user", "genres", "tags"]) == ["user", "tags"]
    assert "has no columns ['genres']: they are not compared" in caplog.text
    with pytest.raises(DataError, match=r"has none of the columns \['genres'\]"):
        columns_of(place.logs, [DAY], ["genres"])


@pytest.mark.usefixtures("_clean_history")
def test_a_hundred_thousand_scores_are_reproduced(place: Place, model, tmp_path: Path) -> None:
    rows = place.rows * 334
    outcome = replayed(place, answer(rows, tmp_path, model, candidates=1000))
    assert (outcome.rows, outcome.reproduced) == (100_200, 100_200)
    assert outcome.largest <= 1e-6
    assert NOON.date().isoformat() == DAY
