"""Models of what is read from YAML and JSON: unknown keys are errors; every mistake is told at once, with its path.

Names of files and directories that are read from JSON have a type here. Whoever can write to an output may write any
name into its JSON; such a name leads nowhere but below the directory that it is joined to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from nightjar.features.contract.errors import SpecError, is_secret
from nightjar.features.contract.outputs import HISTORY, LOCK, POINTER
from nightjar.features.contract.yaml_document import read_document, with_overrides

M = TypeVar("M", bound=BaseModel)

# Begins with a letter or a digit, so that it is neither hidden nor `..`; nothing in it means anything to a shell, to a
# pattern of files or in a URL.
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.=+\-]*"


def _is_no_part_of_a_registry(name: str) -> str:
    if name in (POINTER, HISTORY, LOCK):
        raise ValueError(f"{name} is a registry's own, and no version")
    return name


def _is_a_day(text: str) -> str:
    date.fromisoformat(text)
    return text


FileName = Annotated[str, Field(pattern=f"^{_NAME}$", max_length=255)]
"""What a file or a directory is called: one part of a path."""
RelativePath = Annotated[str, Field(pattern=f"^{_NAME}(/{_NAME})*$", max_length=1000)]
"""A path below the directory that it is relative to."""
Version = Annotated[FileName, AfterValidator(_is_no_part_of_a_registry)]
"""A directory in a registry of models."""
Date = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_is_a_day)]
"""YYYY-MM-DD, a day that there is: pages and figures of a night are called so."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A checksum, in hexadecimal digits."""


class Strict(BaseModel):
    """Base of every model read from YAML or JSON: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def _set(self, *names: str) -> list[str]:
        """Those of the settings that are not at their defaults."""
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]


def digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def with_problems(error: ValidationError | None, problems: Sequence[str], value: Any) -> ValidationError:
    """A pydantic error with more mistakes of the mapping `value`, so that all of them are reported at once."""
    lines: list[InitErrorDetails] = []
    for one in error.errors(include_url=False) if error else ():
        known: Any = one["type"] if one["type"] != "value_error" else _told(one["msg"])
        lines.append({"type": known, "loc": one["loc"], "input": one["input"], "ctx": one.get("ctx", {})})
    if problems:
        lines.append({"type": _told("\n".join(problems)), "loc": (), "input": value})
    return ValidationError.from_exception_data(error.title if error else "", lines)


def _told(text: str) -> PydanticCustomError:
    return PydanticCustomError("value_error", "{text}", {"text": text})


def named_in(items: Any) -> dict[str, Any]:
    """Those of a list that have a name, by it: mappings as they are read, or models. Anything else is left out."""
    found = {}
    for item in items if isinstance(items, list | tuple) else ():
        name = item.get("name") if isinstance(item, Mapping) else getattr(item, "name", None)
        if isinstance(name, str):
            found[name] = item
    return found


def explain(error: ValidationError, source: str) -> str:
    """Every problem of a pydantic error, one a line, each with its path: for people."""
    lines = []
    problems = error.errors(include_url=False)
    wrong_lists = {problem["loc"][:n] for problem in problems for n in range(len(problem["loc"]))}
    for problem in problems:
        # pydantic also finds a list too short when it has dropped the items that are wrong.
        if problem["type"] == "too_short" and problem["loc"] in wrong_lists:
            continue
        path = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {path}: unknown key; remove it or correct its spelling")
        elif problem["type"] == "missing":
            lines.append(f"  {path}: required, but missing")
        elif problem["type"] == "value_error" and isinstance(problem["input"], Mapping):
            # A check of several settings names those that it means; it may have found several mistakes, one a line.
            lines += [f"  {path}: {said}" for said in problem["msg"].removeprefix("Value error, ").splitlines()]
        else:
            hidden = any(is_secret(str(part)) for part in problem["loc"])
            got = "a value that is not shown" if hidden else _short(problem["input"])
            lines.append(f"  {path}: {problem['msg'].removeprefix('Value error, ')} (got {got})")
    return f"{source} has {len(lines)} problem(s):\n" + "\n".join(lines)


def _short(value: Any, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def load_yaml(
    path: str | Path,
    model: type[M],
    section: str | None = None,
    absent: M | None = None,
    overrides: Sequence[str] = (),
) -> M:
    """Read a YAML file into a pydantic model.

    Args:
        path: of the file.
        model: what to validate as.
        section: a key at the top level, to read nothing but its value.
        absent: what a missing section stands for.
        overrides: `KEY=VALUE` each, in the place of what the file says (yaml_document.with_overrides).

    Raises SpecError that lists every mistake with its path.
    """
    document = with_overrides(read_document(path), overrides)
    source = " ".join((str(path), *(f"--set {text}" for text in overrides)))
    value: Any = document
    if section is not None:
        if section not in document and absent is not None:
            return absent
        if section not in document:
            raise SpecError(f"{source} has no section {section!r}; it has {sorted(document)}.")
        source, value = f"{source} [{section}]", document[section]
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise SpecError(explain(error, source)) from error
