"""Where a graph can run, and what is missing where it was asked to run and cannot.

A GPU that was asked for and is not there is an error that names the package, the driver or the
library; `auto` takes the best that works.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from models.errors import ModelRuntimeError
from models.packages import version_of

PROVIDERS: Final = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
#: Each entry: what it is, and the names it is loaded by, any of which will do. onnxruntime-gpu is
#: built for CUDA 12 up to 1.26 and for CUDA 13 from 1.27 on.
_LIBRARIES: Final = (
    ("the CUDA runtime", ("libcudart.so.13", "libcudart.so.12")),
    ("cuBLAS", ("libcublasLt.so.13", "libcublasLt.so.12")),
    ("cuDNN 9", ("libcudnn.so.9",)),
)
_DRIVER: Final = ("libcuda.so.1", "nvcuda.dll")
_TENSORRT: Final = ("TensorRT", ("libnvinfer.so.11", "libnvinfer.so.10"))
#: Engines that TensorRT builds are kept here: building one takes minutes.
_ENGINES: Final = ".tidegate/tensorrt"


def available_threads() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_vnni() -> bool:
    """Whether this CPU says that it multiplies int8 without saturating; False where unknown."""
    try:
        flags = Path("/proc/cpuinfo").read_text("ascii", "replace").split()
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


def parse_device(asked: str) -> tuple[str, int]:
    """(kind, number) of `auto`, `cpu`, `cuda`, `cuda:n`, `tensorrt` or `tensorrt:n`.

    Raises:
        ModelRuntimeError: it is none of them.
    """
    kind, _, number = asked.partition(":")
    if kind not in {"auto", *PROVIDERS} or (number and not number.isdigit()):
        raise ModelRuntimeError(
            f"no device `{asked}`", hint="choose `auto`, `cpu`, `cuda`, `cuda:1` or `tensorrt`"
        )
    return kind, int(number or 0)


def choose_device(asked: str, runs_on: Sequence[str], available: list[str]) -> tuple[str, int]:
    """(`cpu`, `cuda` or `tensorrt`, device number) for what was asked.

    Args:
        asked: the setting `models.device`.
        runs_on: devices the model is made for, best first; TensorRT runs what CUDA runs.
        available: onnxruntime's providers.

    Raises:
        ModelRuntimeError: what was asked for is not there.
    """
    kind, number = parse_device(asked)
    if kind == "auto":
        return next((d for d in runs_on if PROVIDERS[d] in available), "cpu"), 0
    if ("cuda" if kind == "tensorrt" else kind) not in runs_on:
        lacks = (
            "" if PROVIDERS[kind] in available else "; besides, " + "; ".join(what_is_missing(kind))
        )
        raise ModelRuntimeError(
            f"the model is made for {' and '.join(f'`{d}`' for d in runs_on)}, not for `{kind}`{lacks}",
            hint=f"use `--device {runs_on[0]}`, or a preset made for `{kind}`",
        )
    if PROVIDERS[kind] not in available:
        raise ModelRuntimeError(
            f"device `{asked}` was asked for and this onnxruntime has no {PROVIDERS[kind]}: "
            + "; ".join(what_is_missing(kind)),
            hint="install the extra `gpu` instead of `cpu` (`pip uninstall onnxruntime`, then "
            "`pip install 'tidegate[gpu]'`), or use `--device cpu`",
        )
    return kind, number


def what_is_missing(kind: str = "cuda") -> list[str]:
    """What a GPU session lacks on this machine: package, driver, libraries; never empty."""
    missing = []
    if version_of("onnxruntime-gpu") is None:
        beside = " (`onnxruntime` is, and the two exclude each other)"
        there = beside if version_of("onnxruntime") is not None else ""
        missing.append(f"the package `onnxruntime-gpu` is not installed{there}")
    if not _loads(_DRIVER):
        missing.append(f"no NVIDIA driver: `{_DRIVER[0]}` cannot be loaded")
    libraries = [*_LIBRARIES, *([_TENSORRT] if kind == "tensorrt" else [])]
    missing += [
        f"{what} is not installed: none of {', '.join(f'`{name}`' for name in names)} can be loaded"
        for what, names in libraries
        if not _loads(names)
    ]
    return missing or ["package, driver and libraries are there, and their versions do not fit"]


def providers_of(kind: str, number: int) -> list[Any]:
    """What onnxruntime is given for a device; the CPU is always last, for what a GPU cannot."""
    # Memory is taken as it is needed: several workers share a card. An fp32 graph gives fp32's
    # answers: who wants speed takes fp16, whose loss is measured when it is made.
    cuda = (
        PROVIDERS["cuda"],
        {
            "device_id": str(number),
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": "0",
        },
    )
    rest: list[Any] = [PROVIDERS["cpu"]]
    if kind == "cpu":
        return rest
    if kind == "cuda":
        return [cuda, *rest]
    Path(_ENGINES).mkdir(parents=True, exist_ok=True)
    tensorrt = (
        PROVIDERS["tensorrt"],
        {
            "device_id": str(number),
            "trt_fp16_enable": "True",
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": _ENGINES,
        },
    )
    return [tensorrt, cuda, *rest]


def _loads(names: Sequence[str]) -> bool:
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
