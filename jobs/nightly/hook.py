"""A command that is told how a night ended. Whatever becomes of it, the night's result stays."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess

from pydantic import Field, field_validator

from nightjar.features.contract.records import HookEvent
from nightjar.features.contract.strict import Strict

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
    """Run the command with `event` as JSON on standard input, and what it holds as NIGHTJAR_<NAME>."""
    told = event.model_dump(mode="json", exclude_none=True)
    plain = {f"NIGHTJAR_{name.upper()}": value for name, value in told.items()}
    try:
        process = subprocess.Popen(
            shlex.split(hook.command),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **plain},
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        log.warning("the hook %r could not be started: %s", hook.command, error)
        return
    try:
        _, said = process.communicate(json.dumps(told, sort_keys=True), timeout=hook.timeout_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.warning("the hook %r was stopped after %g s", hook.command, hook.timeout_seconds)
        return
    if process.returncode:
        log.warning("the hook %r ended with status %d: %s", hook.command, process.returncode, said.strip()[-500:])
