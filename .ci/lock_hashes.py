"""Write requirements.hashes: the lock's pins with the hashes of the files that `make setup` may install for them.

    python .ci/lock_hashes.py      after requirements.lock has changed; asks pip, which asks the index

Files are wheels of CPython 3.11 for Linux, of x86_64 and of aarch64, or an sdist where there is no wheel. torch is left
out: an index has builds of one version for a CPU and for every CUDA. So is horovod, whose sdist horovod_wheel.py knows.
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

# glibc's versions that a wheel may be for; for another machine pip takes no more than it is told.
GLIBC = ("manylinux_2_34", "manylinux_2_31", "manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17")
OLDER = ("manylinux2014", "linux")
MACHINES = ("x86_64", "aarch64")
HEADER = f"""\
# Written by .ci/{Path(__file__).name} from {LOCK.name}, which says why it is these versions.
"""


def main() -> int:
    """Ask for the files of each machine, and write what was found."""
    pins = {name: version for name, version in read_lock().items() if name not in UNHASHED}
    found: dict[str, set[str]] = defaultdict(set)
    try:
        for machine in MACHINES:
            for name, digest in files(pins, machine):
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


def files(pins: dict[str, str], machine: str) -> list[tuple[str, str]]:
    """Normal name and sha256 of what pip would install on a machine. Raises SetupError if it finds no file of one."""
    options = ["--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--python-version", "3.11"]
    options += ["--implementation", "cp"]
    options += [option for name in (*GLIBC, *OLDER) for option in ("--platform", f"{name}_{machine}")]
    options += [option for abi in ("cp311", "abi3", "none") for option in ("--abi", abi)]
    with tempfile.TemporaryDirectory() as place:
        report = Path(place, "report.json")
        command = [sys.executable, "-m", "pip", "install", *options, "--report", str(report)]
        if subprocess.run([*command, *(f"{name}=={version}" for name, version in pins.items())]).returncode:
            raise SetupError(f"pip found no file of a package for {machine} (its message is above)")
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
