"""The digest of the code is that of the sources, in a folder as in the archive that is submitted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from nightjar.jobs.nightly.lineage import LIBRARIES, code, source_digest

ROOT = Path(__file__).resolve().parents[3]
PRINT = "from nightjar.jobs.nightly import lineage; print(lineage.__file__, lineage.code().sources)"


def test_the_archive_has_the_digest_of_the_folder_it_was_made_from(tmp_path: Path) -> None:
    archive = tmp_path / "nightjar.zip"
    subprocess.run([sys.executable, str(ROOT / ".ci/code_archive.py"), str(archive)], check=True)
    done = subprocess.run(
        [sys.executable, "-c", PRINT],
        env={"PYTHONPATH": str(archive)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    place, digest = done.stdout.split()
    assert place.startswith(str(archive))
    assert digest == code().sources


def test_a_changed_line_or_name_changes_the_digest_and_compiled_files_do_not(tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(ROOT / "features/encoder", package, ignore=shutil.ignore_patterns("__pycache__"))
    before = source_digest(package)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "ragged.cpython-311.pyc").write_bytes(b"x")
    assert source_digest(package) == before
    (package / "ragged.py").rename(package / "jagged.py")
    renamed = source_digest(package)
    (package / "jagged.py").write_text((package / "jagged.py").read_text() + "\n")
    assert len({before, renamed, source_digest(package)}) == 3


def test_every_library_that_a_model_stands_on_is_named_with_its_version() -> None:
    libraries = code().libraries
    assert set(libraries) == {"python", *LIBRARIES}
    assert "not installed" not in libraries.values()
