"""ncnn files."""
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..core.errors import UserError
from ..core.noise import without_native_messages
from .backend import CPU, Backend, Run, Setting

VULKAN = 'vulkan'


def load_net(ncnn: ModuleType, path: Path, precision: str, setting: Setting) -> Any:
    """Load the two files of an ncnn network into an ``ncnn.Net``.

    Raises:
        OSError: one of the files cannot be read.
    """
    net = ncnn.Net()
    # By default ncnn computes in 16 bits on every processor that supports it, even for models exported and checked in fp32.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = precision == 'bf16'
    net.opt.use_vulkan_compute = setting.device == VULKAN
    if setting.threads:
        net.opt.num_threads = setting.threads
    for read, part in ((net.load_param, path), (net.load_model, path.with_suffix('.bin'))):
        if read(str(part)):
            raise OSError(f'{part.name} is damaged, or has layers that this version does not know')
    return net


@cache
def computing_thread(process: int) -> ThreadPoolExecutor:
    """The thread of a process that loads and runs the networks that have several threads of their own.

    Each thread that calls ncnn makes OpenMP start threads for it, which are kept. When there are more of them than cores, GNU's
    OpenMP lets them sleep at every barrier instead of spinning, which made ncnn four times as slow.
    """
    return ThreadPoolExecutor(1, 'ncnn')


def load(ncnn: ModuleType, path: Path, precision: str, setting: Setting) -> Run:
    """Load a network; see :class:`repvgg_seg.runtime.backend.Backend`."""
    process = os.getpid()
    if setting.threads == 1:
        net = load_net(ncnn, path, precision, setting)
    else:
        net = computing_thread(process).submit(load_net, ncnn, path, precision, setting).result()
    output, = net.output_names()

    def segment(image: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
        extractor.input('images', ncnn.Mat(pixels))
        logits = np.array(extractor.extract(output)[1])
        return logits.argmax(0).astype(np.uint8) if output == 'labels' else logits

    def segment_each(images: np.ndarray) -> np.ndarray:
        return np.stack([segment(image) for image in images])

    def run(images: np.ndarray) -> np.ndarray:
        if os.getpid() != process:
            raise UserError(f'{path} was loaded before this process was forked, in which ncnn would wait forever; load it in '
                            'each process')
        if setting.threads == 1:
            return segment_each(images)
        return computing_thread(process).submit(segment_each, images).result()

    return run


def present(ncnn: ModuleType) -> list[str]:
    """Devices that ncnn finds. Without a GPU, a network for Vulkan would be computed on the CPU, and nothing would say so."""
    with without_native_messages():  # Of the drivers that it looks for.
        count = ncnn.get_gpu_count()
    return [*([VULKAN] if count > 0 else []), CPU]


BACKEND = Backend('ncnn', 'ncnn', 'ncnn', load, weights_beside=True, devices=(VULKAN, CPU), present=present)
