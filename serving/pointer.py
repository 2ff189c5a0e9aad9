"""The champion pointer and its history: every move is an entry that is created once, and none is made behind another.

    <root>/history/<sequence>.json   a move; to create it, which only one of several writers can do, is to make it
    <root>/champion.json             the last move, or one shortly before it: where a reader begins to look

A reader goes on from champion.json as long as there is an entry after it. So neither a writer that was killed between
the two writes, nor one that slept there while another moved on, leaves an older champion behind. The token is the
number of the mover's lease: one whose lease was taken over since has a lower one than the last move's, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydantic import Field, ValidationError, model_validator

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, LockedError
from nightjar.features.contract.outputs import HISTORY, POINTER, numbered_file
from nightjar.features.contract.strict import Sha256, Strict, Version, explain

S = TypeVar("S", bound=Strict)

# The names of entries have six digits.
LAST_SEQUENCE = 999_999


class Pointer(Strict):
    """A move of the champion pointer.

    digest: sha256 of the version's manifest. reason: who or what decided. sequence: counts the moves from 1.
    previous: sequence of the move that made the champion before, None for the first; a rollback takes it over
    from the move that it returns to. counters, counters_digest: name of the counters that it is served with, and sha256
    of their manifest; None for those that the version was packed with. judged: the version that the gate judged, where
    this one has learned the judging day on top of it. token: number of the lease that the mover held; None of a move
    without one.
    """

    version: Version
    digest: Sha256
    reason: str
    sequence: int = Field(ge=1, le=LAST_SEQUENCE)
    previous: int | None = Field(default=None, ge=1)
    counters: str | None = Field(default=None, min_length=1)
    counters_digest: str | None = None
    judged: str | None = Field(default=None, min_length=1)
    token: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _leads_back(self) -> Pointer:
        """Walks back through the history end."""
        if self.previous is not None and self.previous >= self.sequence:
            raise ValueError(f"previous must be less than sequence {self.sequence}; got {self.previous}")
        return self


def last_move(root: str) -> Pointer | None:
    """The champion; None before the first promotion. Raises DataError if the pointer or a later move is damaged."""
    found = read(storage.join(root, POINTER), Pointer)
    while following := read(_entry(root, found.sequence + 1 if found else 1), Pointer):
        found = following
    return found


def settled(root: str) -> Pointer | None:
    """`last_move`, after champion.json was made to say the same; for those who write."""
    last = last_move(root)
    if last and read(storage.join(root, POINTER), Pointer) != last:
        write(storage.join(root, POINTER), last)
    return last


def make(root: str, move: Pointer, token: int | None) -> Pointer:
    """Make a move and let champion.json follow.

    Args:
        root: of the registry.
        move: the one after `last_move`.
        token: number of the lease that is held; None takes the last move's over.

    Raises LockedError, and nothing has moved, if another run was faster or has taken the lease over.
    """
    last = read(_entry(root, move.sequence - 1), Pointer)
    newest = last.token if last else None
    if token is not None and newest is not None and token < newest:
        raise LockedError(
            f"another run has taken over {root} and moved its pointer: its lease has the number {newest}, this run's "
            f"{token}. It ends here; the next run finds its work."
        )
    move = move.model_copy(update={"token": newest if token is None else token})
    try:
        storage.create_bytes(_entry(root, move.sequence), _json(move))
    except FileExistsError as error:
        raise LockedError(
            f"another run has moved the pointer of {root} in the same moment; this one has not. Run the same command "
            f"again."
        ) from error
    write(storage.join(root, POINTER), move)
    return move


def moves(root: str) -> Iterator[Pointer]:
    """Every move, in order, as far as its entry is there."""
    last = last_move(root)
    found = (read(_entry(root, n), Pointer) for n in range(1, last.sequence + 1 if last else 1))
    return (move for move in found if move)


def before(root: str, current: Pointer) -> Pointer | None:
    """The move that a rollback returns to: the last of another version that was not rolled back itself."""
    pointer = current
    while pointer.previous is not None:
        entry = read(_entry(root, pointer.previous), Pointer)
        if entry is None or entry.sequence != pointer.previous:
            state = "missing" if entry is None else "not the entry of that number"
            raise DataError(f"{_entry(root, pointer.previous)} is {state}. Promote a version by name instead.")
        if entry.version != current.version:
            return entry
        pointer = entry
    return None


def read(url: str, model: type[S]) -> S | None:
    """A file of the registry; None if it is not there. Raises DataError if it is damaged."""
    try:
        return model.model_validate_json(storage.read_bytes(url))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        hint = f"Restore it; the last entry of {HISTORY}/ holds what {POINTER} held."
        raise DataError(f"{explain(error, url)}\n{hint}") from error


def write(url: str, value: Strict) -> None:
    """Write a file of the registry, at once."""
    storage.write_bytes(url, _json(value))


def _json(value: Strict) -> bytes:
    return (value.model_dump_json(indent=1) + "\n").encode()


def _entry(root: str, sequence: int) -> str:
    return storage.join(root, HISTORY, numbered_file(sequence))
