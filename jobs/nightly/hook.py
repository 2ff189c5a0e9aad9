"""A command that is told how a night ended. Whatever becomes of it, the night's result stays."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess
import tempfile
from contextlib import suppress

from pydantic import Field, field_validator

from nightjar.features.contract.errors import masked
from nightjar.features.contract.records import HookEvent
from nightjar.features.contract.strict import Strict

# The kernel refuses a process a value of more than 128 KiB in its environment.
MOST_BYTES = 16 * 1024
_CUT = " [...] "

log = logging.getLogger(__name__)


class HookConfig(Strict):
    """A command that is told how a night ended."""

    command: str = Field(min_length=1)
    """Program and arguments as in a shell's line, started without a shell."""
    timeout_seconds: float = Field(default=60.0, gt=0.0)
    """How long it may take; then it is killed."""

    @field_validator("command")
    @classmethod
    def _splits(cls, command: str) -> str:
        if not shlex.split(command):
            raise ValueError("the command is empty")
        return command


def call(hook: HookConfig, event: HookEvent) -> None:
    """Run the command with `event` as JSON on standard input, and what it holds as NIGHTJAR_<NAME>.

    Texts are cut to MOST_BYTES, and without characters that an environment cannot hold. Raises nothing.
    """
    program = shlex.split(hook.command)[0].rpartition("/")[2]
    try:
        _call(hook, event, program)
    except Exception as error:
        log.warning("the hook %s could not be told: %s", program, _without_arguments(hook, str(error)))


def _call(hook: HookConfig, event: HookEvent, program: str) -> None:
    told = {name: clean(masked(str(value))) for name, value in event.model_dump(mode="json", exclude_none=True).items()}
    plain = {f"NIGHTJAR_{name.upper()}": value for name, value in told.items()}
    # No pipe: one that the hook leaves to a process of its own has no end.
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                shlex.split(hook.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**os.environ, **plain},
                start_new_session=True,
            )
        except OSError as error:
            log.warning("the hook %s could not be started: %s", program, error.strerror)
            return
        try:
            process.communicate(json.dumps(told, sort_keys=True).encode(), timeout=hook.timeout_seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log.warning("the hook %s was stopped after %g s", program, hook.timeout_seconds)
            return
        if process.returncode:
            said.seek(max(0, said.seek(0, os.SEEK_END) - MOST_BYTES))
            last = _without_arguments(hook, said.read(MOST_BYTES).decode(errors="replace").strip())[-500:]
            log.warning("the hook %s ended with status %d: %s", program, process.returncode, last)


def clean(text: str) -> str:
    """A text for an environment and for JSON: no NUL, no half of a surrogate pair, at most MOST_BYTES of UTF-8."""
    content = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace")
    if len(content) <= MOST_BYTES:
        return content.decode()
    half = (MOST_BYTES - len(_CUT.encode())) // 2
    return content[:half].decode(errors="ignore") + _CUT + content[-half:].decode(errors="ignore")


def _without_arguments(hook: HookConfig, text: str) -> str:
    """A hook may be given a password on its command line, and say it again."""
    for argument in sorted(shlex.split(hook.command)[1:], key=len, reverse=True):
        for part in (argument, argument.partition("=")[2]):
            if len(part) > 3:
                text = text.replace(part, "***")
    return text
