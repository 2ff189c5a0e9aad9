"""`nightjar serve` as a process: it begins, refuses what it cannot do, and ends in order."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.cli import main
from nightjar.serving.raw_values import from_json
from nightjar.serving.server.settings import Settings
from tests.kits.serving.server_kit import JSON, SECONDS, Client, json_rows, model_of, running

ROOT = Path(__file__).resolve().parents[3]
ROWS = json_rows(5, seed=21)
Process = subprocess.Popen[str]


@contextmanager
def serving(models: str, *options: str) -> Iterator[tuple[Process, int, str]]:
    """The process, its port and its first line."""
    command = [sys.executable, "-m", "nightjar", "serve", "--models", models, "--port", "0", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield process, int(re.findall(r":(\d+)/", line)[0]), line
        finally:
            process.kill()


def begin(port: int, body: bytes) -> http.client.HTTPConnection:
    """A request whose body is not complete."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.putrequest("POST", "/score")
    for name, value in (JSON | {"Content-Length": str(len(body))}).items():
        connection.putheader(name, value)
    connection.endheaders(body[: len(body) // 2])
    return connection


def until_at_work(port: int, count: int) -> None:
    with closing(Client(port)) as client:
        for _ in range(6000):
            if f"nightjar_server_requests_at_once {count}.0" in client.get("/metrics").content.decode():
                return
            threading.Event().wait(0.01)
    raise AssertionError(f"{count} requests are not at work")


def test_sigterm_answers_what_is_in_flight_and_ends_with_status_0(models: str, tmp_path: Path) -> None:
    body = json.dumps({"rows": ROWS}).encode()
    with serving(models, "--requests", str(tmp_path / "log"), "--max-seconds", "60") as (process, port, line):
        assert line == f"one is served at http://127.0.0.1:{port}/\n"
        with closing(begin(port, body)) as connection:
            until_at_work(port, 1)
            process.send_signal(signal.SIGTERM)
            for _ in range(6000):
                if refuses(port):
                    break
                threading.Event().wait(0.01)
            connection.send(body[len(body) // 2 :])
            with connection.getresponse() as response:
                assert response.status == 200
                assert json.loads(response.read())["scores"] == model_of(models, "one").score(ROWS).tolist()
        assert process.wait(SECONDS) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    (file,) = (tmp_path / "log").glob("*.parquet")
    logged = pq.read_table(file).to_pylist()
    assert [from_json(row["raw"]) for row in logged] == ROWS
    assert {(row["version"], row["counters"], row["as_of"]) for row in logged} == {("one", None, "2024-05-03")}
    assert main(["replay", "--requests", str(tmp_path / "log"), "--models", models]) == 0


def refuses(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) != 0


def test_more_requests_at_once_than_allowed_are_told_to_come_again(models: str) -> None:
    body = json.dumps({"rows": ROWS}).encode()
    settings = Settings(requests=2, seconds=SECONDS, every_seconds=3600.0)
    with running(models, settings) as server:
        with closing(begin(server.port, body)) as first, closing(begin(server.port, body)) as second:
            until_at_work(server.port, 2)
            with server.client() as client:
                found = client.post("/score", body)
                assert (found.status, found.headers["retry-after"]) == (503, "1")
                assert found.json["error"] == "2 requests are at work, and no more may. Send it again later."
                assert client.get("/healthz").status == 200
            for connection in (first, second):
                connection.send(body[len(body) // 2 :])
                with connection.getresponse() as response:
                    assert response.status == 200
        with server.client() as client:
            assert client.post("/score", body).status == 200


def test_a_body_that_does_not_come_is_not_waited_for(models: str) -> None:
    with (
        running(models, Settings(seconds=0.2, every_seconds=3600.0)) as server,
        closing(begin(server.port, b'{"rows": []}')) as connection,
        connection.getresponse() as response,
    ):
        assert response.status == 408
        assert json.loads(response.read()) == {"error": "the body did not come within 0.2 seconds."}


def test_a_client_that_goes_is_counted_and_missed_by_nobody(models: str) -> None:
    with running(models) as server:
        begin(server.port, json.dumps({"rows": ROWS}).encode()).close()
        with server.client() as client:
            assert client.post("/score", {"rows": ROWS}).status == 200
        name = 'nightjar_server_requests_total{route="/score",status="499"}'
        for _ in range(6000):
            if server.metric(name):
                break
            threading.Event().wait(0.01)
        assert server.metric(name) == 1


def test_refused_rows_are_in_the_request_log_and_refused_json_is_not(models: str, tmp_path: Path) -> None:
    from nightjar.serving.request_log import RequestLog

    with RequestLog(str(tmp_path)) as log, running(models, log=log) as server, server.client() as client:
        client.post("/score", {"rows": [ROWS[0] | {"age": "old"}]})
        client.post("/score", b"[")
        client.post("/rank", {"context": {"user": "ann"}, "candidates": [without(ROWS[0], "user")]})
        assert log.flush()
        assert server.metric('nightjar_server_logged_requests_total{outcome="written"}') == 2
    logged = pa.concat_tables(map(pq.read_table, sorted(tmp_path.glob("*.parquet")))).to_pylist()
    assert [(row["score"] is None, row["error"] is None) for row in logged] == [(True, False), (False, True)]
    assert from_json(logged[1]["raw"]) == without(ROWS[0], "user") | {"user": "ann"}


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-rows", "0"], "the bounds of a server must be above 0; got {'rows': 0}."),
        (["--host", "host.invalid"], "cannot listen on host.invalid:0: "),
        (["--requests", "s3://bucket/log"], "must be a local folder"),
    ],
)
def test_what_cannot_be_is_said_in_one_message(
    models: str, options: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--models", models, "--port", "0", *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_port_that_is_taken_and_a_registry_without_a_champion_are_named(
    models: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--models", models, "--port", str(port)]) == 2
        assert f"cannot listen on 127.0.0.1:{port}: " in capsys.readouterr().err
    assert main(["serve", "--models", str(tmp_path), "--port", "0"]) == 2
    assert f"{tmp_path} has no champion. Promote a version first." in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(models: str) -> None:
    program = (
        "import sys; sys.modules['starlette'] = None; from nightjar.cli import main;"
        f"sys.exit(main(['serve', '--models', {models!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'nightjar[serve]'" in done.stderr
    assert "Traceback" not in done.stderr
