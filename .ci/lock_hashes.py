"""Write requirements.hashes: the lock's pins with the hashes of the files that `make setup` may install for them.

    python .ci/lock_hashes.py      after requirements.lock has changed; asks pip, which asks the index

Files are wheels of CPython 3.11 for Linux on x86_64, or an sdist where there is no wheel; run it there. torch is out:
an index has builds of one version for a CPU and for every CUDA. So is horovod, whose sdist horovod_wheel.py knows.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from setup_environment import HASHES, LOCK, UNHASHED, SetupError, read_lock

HEADER = f"""\
# Written by .ci/{Path(__file__).name} from {LOCK.name}, which says why it is these versions.
"""


def main() -> int:
    """Ask for the files, and write what was found."""
    pins = {name: version for name, version in read_lock().items() if name not in UNHASHED}
    found: dict[str, set[str]] = defaultdict(set)
    try:
        for name, digest in files(pins):
            found[name].add(digest)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    lines = [
        " ".join([f"{name}=={version}", *(f"--hash=sha256:{digest}" for digest in sorted(found[normal(name)]))])
        for name, version in pins.items()
    ]
    HASHES.write_text(HEADER + "\n".join(lines) + "\n")
    return 0


def files(pins: dict[str, str]) -> list[tuple[str, str]]:
    """Normal name and sha256 of what pip would install. Raises SetupError if it finds no file of a package."""
    options = ["--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
    with tempfile.TemporaryDirectory() as place:
        report = Path(place, "report.json")
        command = [sys.executable, "-m", "pip", "install", *options, "--report", str(report)]
        if subprocess.run([*command, *(f"{name}=={version}" for name, version in pins.items())]).returncode:
            raise SetupError("pip found no file of a package (its message is above)")
        items = json.loads(report.read_text())["install"]
    return [(normal(one["metadata"]["name"]), digest_of(one["download_info"])) for one in items]


def digest_of(download: dict[str, dict[str, dict[str, str]]]) -> str:
    """The file's."""
    return download["archive_info"]["hashes"]["sha256"]


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
