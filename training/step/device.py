"""Where the dense layers run, and the tables with them if training.tables.choice says so: chosen here, once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nightjar.features.contract.errors import UsageError

HOST = torch.device("cpu")


def device_of_worker(choice: str, rank: int) -> torch.device:
    """The device that TrainingConfig.device stands for in this worker; GPUs are dealt out by rank.

    Raises UsageError if cuda is asked for and there is none.
    """
    gpus = torch.cuda.device_count()
    if choice == "cuda" and not gpus:
        raise UsageError("training.device is cuda, but torch sees no GPU here. Set training.device to auto or cpu.")
    return torch.device("cuda", rank % gpus) if gpus and choice != "cpu" else HOST


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """The array there: itself in the host's memory, a copy elsewhere. Work on a GPU that was begun before goes on."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        # PyTorch keeps the pinned copy until the transfer is over.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
