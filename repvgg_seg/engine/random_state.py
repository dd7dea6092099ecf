"""The state of all random generators, as plain values and tensors, which ``torch.load(weights_only=True)`` reads."""
import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict:
    """States of the random generators of Python, NumPy and PyTorch (including all GPUs of this process)."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state()
    return dict(python=(version, torch.tensor(words), gauss), numpy=(torch.from_numpy(numpy_state[1].astype(np.int64)),
                                                                     *map(float, numpy_state[2:])),
                torch=torch.get_rng_state(), cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])


def restore_random_state(state: dict) -> None:
    """Restore the result of :func:`random_state`; the state of additional GPUs does not change."""
    version, words, gauss = state['python']
    random.setstate((version, tuple(words.tolist()), gauss))
    words, position, has_gauss, gauss = state['numpy']
    np.random.set_state(('MT19937', words.cpu().numpy().astype(np.uint32), int(position), int(has_gauss), gauss))
    torch.set_rng_state(state['torch'].cpu())
    for device, device_state in enumerate(state['cuda'][:torch.cuda.device_count()]):
        torch.cuda.set_rng_state(device_state.cpu(), device)
