"""What a run of fine-tuning needs to go on, on the disk: whole or not at all."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from il_robot.data.layout import sync_file, sync_folder

STATE = 'state'
_LEARNER, _EXPERIENCE, _PROGRESS = 'learner.safetensors', 'experience.npz', 'progress.json'
DAMAGES = (OSError, EOFError, ValueError, KeyError, RuntimeError, SafetensorError,
           zipfile.BadZipFile)
"""What reading a damaged state raises, or taking it up."""


@dataclass(frozen=True, eq=False)
class RunState:
    """See the module.

    Attributes:
        tensors: Of the learner.
        arrays: What it has experienced.
        progress: Everything else; JSON.
    """

    tensors: Mapping[str, torch.Tensor]
    arrays: Mapping[str, NDArray[Any]]
    progress: Mapping[str, Any]


def save_state(output: Path, state: RunState) -> None:
    """Replace the state in the folder of a run, durably and all at once."""
    place, old, fresh = (output / name for name in (STATE, f'.{STATE}.old', f'.{STATE}'))
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    save_file({k: v.contiguous() for k, v in state.tensors.items()}, fresh / _LEARNER)
    with (fresh / _EXPERIENCE).open('wb') as file:
        np.savez(file, allow_pickle=False, **state.arrays)
    (fresh / _PROGRESS).write_text(json.dumps(state.progress))
    for path in fresh.iterdir():
        sync_file(path)
    sync_folder(fresh)
    if place.exists():
        shutil.rmtree(old, ignore_errors=True)
        place.rename(old)
    fresh.rename(place)
    sync_folder(output)
    shutil.rmtree(old, ignore_errors=True)


def load_state(output: Path) -> RunState | None:
    """The newest whole one; None where nothing was saved yet.

    Raises:
        one of :data:`DAMAGES`.
    """
    for name in (STATE, f'.{STATE}.old'):  # between two renames there is only the older one
        place = output / name
        if place.exists():
            with np.load(place / _EXPERIENCE, allow_pickle=False) as arrays:
                return RunState(load_file(place / _LEARNER), dict(arrays),
                                json.loads((place / _PROGRESS).read_text()))
    return None
