"""No secret in a line of a log, in a message or in a file of a run."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest
from pydantic import Field

from nightjar.features.contract.errors import SpecError, masked
from nightjar.features.contract.strict import Strict, load_yaml
from nightjar.jobs.nightly.telemetry import JobRun, structured_log

SECRETS = (
    "MLflow at http://u:SECRET@127.0.0.1:9 does not know",
    "http://user:SE@CRET@host/path and more",
    "s3://AKIASECRET:abc/SECRET+/x@bucket/models",
    "https://SECRET@github.com/x",
    "'jdbc:postgresql://db/x?user=u&password=SECRET&ssl=true'",
    "https://b.s3.amazonaws.com/k?X-Amz-Credential=SECRET&X-Amz-Signature=SECRET&x=1",
    "AWS_SECRET_ACCESS_KEY=SECRET",
    "{'password': 'SECRET', 'note': 'n'}",
    '{"aws_secret_access_key": "SECRET with a space"}',
    "api_key=SECRET; x",
    "Authorization: Bearer SECRET",
    "fs.azure.account.key.x.blob.core.windows.net=ok accountKey=SECRET",
)


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_masked(text: str) -> None:
    assert "SECRET" not in masked(text).replace("SECRET_ACCESS_KEY", "")
    assert "***" in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "training on /data/out/datasets/train-2026-01-01..2026-01-02-0123456789ab",
        "s3://bucket/models/2026-01-05-wide_deep-0123456789ab",
        "http://mlflow:5000 does not know the champion yet",
        "abfss://container@account.dfs.core.windows.net/logs",
        "the columns ['token', 'secret_santa'] are missing; the log has ['user', 'tokens']",
        "column 'tokens' has several types: ['string', 'int64']",
        "warm start: 12 of 13 rows; head: tokens: 5 of 6",
        "mail someone@example.org",
        "nightly.keep.models: Input should be greater than 0 (got 0)",
    ],
)
def test_other_lines_stay_as_they_are(text: str) -> None:
    assert masked(text) == text


class Connection(Strict):
    """Settings, one of them a secret."""

    password: str = Field(max_length=3)
    tracking_uri: str = Field(max_length=3)
    name: str = Field(max_length=3)


def test_a_wrong_value_of_a_secret_setting_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({"password": "SECRET", "tracking_uri": "http://u:SECRET@h", "name": "shown"}))
    with pytest.raises(SpecError, match=r"password: .* \(got a value that is not shown\)") as caught:
        load_yaml(path, Connection)
    assert "SECRET" not in str(caught.value)
    assert "(got 'shown')" in str(caught.value)


def test_a_runs_log_holds_no_secret_and_is_its_owners_alone(tmp_path: Path) -> None:
    run = JobRun()

    def work() -> None:
        with structured_log(str(tmp_path), run):
            logging.getLogger("nightjar").warning("MLflow at %s: \ud800", "http://u:SECRET@h")
            raise RuntimeError("s3://AK:SECRET@bucket")

    with pytest.raises(RuntimeError):
        work()
    [path] = (tmp_path / "runs").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert "SECRET" not in text
    assert [json.loads(line)["level"] for line in text.splitlines()] == ["WARNING", "ERROR"]


@pytest.mark.parametrize(
    "part", ["x", "a1_", "://", "a://", "token", "token=", 'token="', ":", "@", "a:b@", " ", "=", "'"]
)
def test_a_long_text_of_any_kind_is_masked_in_a_moment(part: str) -> None:
    """An expression that goes back and forth would take hours for these."""
    assert masked(part * (1_000_000 // len(part)))
