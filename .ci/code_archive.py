"""Zip the packages for spark-submit --py-files.

The same sources give the same bytes: the entries are sorted and carry a fixed time stamp.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can hold


def write_archive(target: Path, root: Path, packages: list[str]) -> int:
    """Write every file of `packages`, compiled ones excepted, and return their number."""
    files = sorted(
        path
        for package in packages
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return len(files)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    count = write_archive(target, Path(__file__).resolve().parent.parent, sys.argv[2:])
    print(f"{target}: {count} files")
