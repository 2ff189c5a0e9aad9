"""What `nightjar serve` costs on loopback: throughput and p99 by connections, and while champions come and go.

    python -m benchmarks.server --models build/nightly/models --wrk /usr/bin/wrk

The two latest versions are copied to a registry of their own. The client is wrk (Debian's package), with bodies drawn
from the artifact's golden rows, asked in turn. During promotions a second client of ours compares every answer with
that of the version that it names, bit for bit.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from nightjar.serving import registry
from nightjar.serving.model import ServingModel, load
from nightjar.serving.server.openapi import as_json

CONTEXT = ("user_id", "country", "language", "device", "hour", "weekday", "installed_apps", "age")
CANDIDATES, DISTINCT, BEST = 200, 20, 20
CONNECTIONS = (1, 8, 64)
PROMOTIONS = 20
HEADERS = {"Content-Type": "application/json"}
SCRIPT = """
local bodies = {{{bodies}}}
local n = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function() n = n % #bodies + 1; return wrk.format(nil, "{route}", nil, bodies[n]) end
"""


class Load(NamedTuple):
    """What wrk saw. errors: answers other than 200, and broken connections."""

    per_second: float
    p50: str
    p99: str
    answers: int
    errors: int


def bodies(golden: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """DISTINCT requests of each kind with their routes: one row, eight rows, and candidates in their context."""
    rng = np.random.default_rng(1)

    def drawn(count: int) -> list[Mapping[str, Any]]:
        return [golden[n] for n in rng.integers(0, len(golden), count)]

    ranked = [
        {
            "context": {name: value for name, value in rows[0].items() if name in CONTEXT},
            "candidates": [{name: value for name, value in row.items() if name not in CONTEXT} for row in rows],
            "k": BEST,
        }
        for rows in (drawn(CANDIDATES) for _ in range(DISTINCT))
    ]
    return {
        "one row": ("/score", [{"rows": drawn(1)} for _ in range(DISTINCT)]),
        "8 rows": ("/score", [{"rows": drawn(8)} for _ in range(DISTINCT)]),
        f"{CANDIDATES} candidates in their context, the best {BEST}": ("/rank", ranked),
    }


@contextmanager
def served(models: Path, options: Sequence[str]) -> Iterator[int]:
    """The command on a free port; the port. Its exit status must be 0 after SIGTERM."""
    command = [sys.executable, "-m", "nightjar", "serve", "--models", str(models), "--port", "0"]
    command += ["--log-level", "warning", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(re.findall(r":(\d+)/", process.stdout.readline())[0])
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
    assert status == 0, status


def load_with(wrk: str, port: int, route: str, asked: Sequence[Any], connections: int, seconds: int) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        quoted = ", ".join(f"[==[{json.dumps(body)}]==]" for body in asked)
        script.write(SCRIPT.format(bodies=quoted, route=route))
        script.flush()
        command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", "-s", script.name]
        said = subprocess.run([*command, f"http://127.0.0.1:{port}"], check=True, capture_output=True, text=True).stdout
    broken = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", said)))
    broken += sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
    p50, p99 = (re.findall(rf"^ +{percent}% +(\S+)", said, re.MULTILINE)[0] for percent in (50, 99))
    answers = int(re.findall(r"(\d+) requests in", said)[0])
    return Load(float(re.findall(r"Requests/sec:\s+(\S+)", said)[0]), p50, p99, answers, broken)


class Checker(threading.Thread):
    """Asks without a pause and compares each answer with what the version that it names gives in this process."""

    def __init__(self, port: int, asked: Sequence[Any], models: Mapping[str, ServingModel]) -> None:
        super().__init__()
        self._port, self._asked, self.stop = port, asked, threading.Event()
        self._wanted = {name: [model.score(body["rows"]).tolist() for body in asked] for name, model in models.items()}
        self.answers, self.failed, self.mixed = 0, 0, 0
        self.versions: set[str] = set()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self.stop.is_set():
            place = self.answers % len(self._asked)
            connection.request("POST", "/score", json.dumps(self._asked[place]), HEADERS)
            with connection.getresponse() as response:
                found = json.loads(response.read())
            self.answers += 1
            if response.status != 200:
                self.failed += 1
                continue
            self.versions.add(found["version"])
            self.mixed += found["scores"] != self._wanted[found["version"]][place]
        connection.close()


class Mover(threading.Thread):
    """Moves the pointer PROMOTIONS times in so many seconds, to and fro. loads: how often the server has followed."""

    def __init__(self, root: Path, versions: Sequence[str], port: int, seconds: float) -> None:
        super().__init__()
        self._root, self._versions, self._port, self._seconds = root, versions, port, seconds
        self.loads = 0

    def run(self) -> None:
        before = self._loads()
        for move in range(PROMOTIONS):
            registry.promote(str(self._root), self._versions[move % 2], f"move {move}")
            time.sleep(self._seconds / PROMOTIONS)
        self.loads = self._loads() - before

    def _loads(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return int(float(re.findall(r'nightjar_server_loads_total\{outcome="model"\} (\S+)', text)[0]))


def main(argv: Sequence[str] | None = None) -> int:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(prog="server", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="a registry with two versions or more")
    parser.add_argument("--wrk", default="wrk", help="the client")
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--options", nargs="*", default=[], help="further options of the server, without their dashes")
    args = parser.parse_args(argv)
    options = [part for option in args.options for part in (f"--{option.partition('=')[0]}", option.partition("=")[2])]
    with tempfile.TemporaryDirectory() as folder:
        root, versions = Path(folder), registry.versions(str(args.models))[:2]
        for version in versions:
            shutil.copytree(args.models / version, root / version)
        registry.promote(str(root), versions[1], "first")
        read = [
            {name: as_json(value) for name, value in row.items()}
            for row in pq.read_table(root / versions[1] / "golden/raw.parquet").to_pylist()
        ]
        names = {column.name for column in load(str(root / versions[1])).inputs}
        kinds = bodies([{name: value for name, value in row.items() if name in names} for row in read])
        print(f"load average {os.getloadavg()[0]:.1f}\n")
        print("| request | connections | requests/s | p50 | p99 | answers | errors |\n" + "|---" * 7 + "|")
        with served(root, ["--every", "0.1", *options]) as port:
            for kind, (route, asked) in kinds.items():
                for connections in CONNECTIONS:
                    load_with(args.wrk, port, route, asked, connections, 1)
                    found = load_with(args.wrk, port, route, asked, connections, args.seconds)
                    print(f"| {kind} | {connections} | " + " | ".join(map(str, found)) + " |", flush=True)
            print(f"\nDuring {PROMOTIONS} promotions:\n")
            print(
                "| request | connections | requests/s | p50 | p99 | answers | errors | checked, failed, mixed | loads |"
            )
            print("|---" * 9 + "|")
            checked = {version: load(str(root / version)) for version in versions}
            for connections in CONNECTIONS:
                route, asked = kinds["one row"]
                checker = Checker(port, asked, checked)
                checker.start()
                mover = Mover(root, versions, port, args.seconds)
                mover.start()
                found = load_with(args.wrk, port, route, asked, connections, args.seconds + 1)
                mover.join()
                checker.stop.set()
                checker.join()
                said = f"{checker.answers}, {checker.failed}, {checker.mixed}"
                print(
                    f"| one row | {connections} | {' | '.join(map(str, found))} | {said} | {mover.loads} |", flush=True
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
