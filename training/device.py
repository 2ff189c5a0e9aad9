"""Where the dense layers run: chosen here, once. Tables and their exchange stay in the host's memory."""

from __future__ import annotations

import torch

from features.errors import UsageError


def device_of_worker(choice: str, rank: int) -> torch.device:
    """The device that TrainingConfig.device stands for in this worker; GPUs are dealt out by rank.

    Raises UsageError if cuda is asked for and there is none.
    """
    gpus = torch.cuda.device_count()
    if choice == "cuda" and not gpus:
        raise UsageError("training.device is cuda, but torch sees no GPU here. Set training.device to auto or cpu.")
    return torch.device("cuda", rank % gpus) if gpus and choice != "cpu" else torch.device("cpu")
