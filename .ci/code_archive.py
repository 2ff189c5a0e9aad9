"""Zip the package for spark-submit --py-files.

The same sources give the same bytes: the entries are sorted and carry a fixed time stamp. Links to folders are
followed, so that the archive holds nightjar/features/... as files.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "nightjar"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can hold


def write_archive(target: Path, root: Path) -> int:
    """Write every file of the package, compiled ones excepted, and return their number."""
    files = sorted(sources(root / PACKAGE))
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return len(files)


def sources(package: Path) -> Iterator[Path]:
    """The package's files, through its links."""
    for folder, _, names in os.walk(package, followlinks=True):
        if Path(folder).name != "__pycache__":
            yield from (Path(folder, name) for name in names if not name.endswith(".pyc"))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    count = write_archive(target, Path(__file__).resolve().parent.parent)
    print(f"{target}: {count} files")
