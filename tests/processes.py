"""Processes that find each other as those of torchrun do."""
import os
import socket
import subprocess
import sys
from pathlib import Path

from repvgg_seg.core.environment import installed_distributions

# MMEngine 0.10.7 cannot read its own checkpoints with PyTorch 2.6 and later, unless it is told so; our tools can.
FOR_THEIR_TOOLS = {} if 'onedl-mmengine' in installed_distributions() else dict(TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1')


def start_ranks(*arguments: str | Path, ranks: int = 2) -> list[subprocess.Popen]:
    """Start a Python script once for each rank, on the CPU with one thread each; outputs go to pipes.

    With a GPU they would use NCCL, which needs as many GPUs as ranks.
    """
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    return [subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=dict(os.environ, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR='127.0.0.1',
                 MASTER_PORT=str(port), OMP_NUM_THREADS='1',
                 CUDA_VISIBLE_DEVICES='')) for rank in range(ranks)]
