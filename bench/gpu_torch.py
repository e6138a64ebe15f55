"""PyTorch's side of `bench.gpu`: the same posts in fp16, and how fast the card multiplies."""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.gpu_model import flops_of_a_post as _flops

_SIDE = 8192


def flops_of_a_post(source: Path, tokens: int) -> float:
    """Of the classifier in the folder `source`."""
    return _flops(json.loads((source / "config.json").read_text("utf-8")), tokens)


def peak(device: str) -> dict[str, Any]:
    """What one large product reaches, and the encoder's products at their own shapes, in TFLOP/s."""
    shapes = {
        f"{_SIDE} cubed": (_SIDE, _SIDE, _SIDE),
        "16384 x 768 x 2304": (16_384, 768, 2304),
        "16384 x 768 x 3072": (16_384, 768, 3072),
        "16384 x 3072 x 768": (16_384, 3072, 768),
    }
    if device == "cpu":
        shapes = {"256 cubed": (256, 256, 256)}
    rates = {name: _rate(*shape, device) for name, shape in shapes.items()}
    return {"tflops": next(iter(rates.values())), "shapes": rates, "torch": torch.__version__}


def _rate(m: int, k: int, n: int, device: str) -> float:
    a = torch.randn(m, k, device=device, dtype=_dtype(device))
    b = torch.randn(k, n, device=device, dtype=_dtype(device))
    times = []
    for number in range(40):
        _wait(device)
        begun = time.perf_counter()
        # Several at once: starting one takes as long as a small one lasts.
        for _ in range(8):
            a @ b
        _wait(device)
        if number >= 10:
            times.append((time.perf_counter() - begun) / 8)
    return round(2 * m * k * n / median(times) / 1e12, 4)


def stock(source: Path, device: str) -> Any:
    """The classifier as transformers loads it, with PyTorch's fused attention."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(source, attn_implementation="sdpa")
    return model.to(device=device, dtype=_dtype(device)).eval()


def compiled(model: Any) -> Any:
    """The same, compiled."""
    return torch.compile(model)


def run(model: Any, ids: NDArray[np.int64], rows: int, device: str) -> NDArray[np.float32]:
    """Logits of all rows, `rows` a call: pinned, copied, computed, and read back at the end."""
    host = torch.from_numpy(ids)
    if device != "cpu":
        host = host.pin_memory()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(ids), rows):
            some = host[start : start + rows].to(device, non_blocking=True)
            parts.append(model(input_ids=some, attention_mask=torch.ones_like(some)).logits)
        logits: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    return logits


def best_rows(model: Any, ids: NDArray[np.int64], device: str) -> dict[str, Any]:
    """The rows a call at which PyTorch is fastest, of some."""
    rates = {}
    for rows in (32, 128, 256, 512, 1024, 2048) if device != "cpu" else (32,):
        some = ids[: max(rows * 4, 4096)]
        run(model, some, rows, device)
        begun = time.perf_counter()
        run(model, some, rows, device)
        rates[rows] = round(len(some) / (time.perf_counter() - begun), 1)
    return {"rows": max(rates, key=lambda rows: rates[rows]), "posts_per_s": rates}


def difference(
    model: Any, ids: NDArray[np.int64], logits: NDArray[np.float32], device: str
) -> dict[str, float]:
    """Of our logits to those of PyTorch in fp16 and in fp32; PyTorch's own fp16 beside it."""
    half = run(model, ids, 64, device)
    exact = run(model.float(), ids, 64, device)
    model.to(_dtype(device))
    return {
        "ours_to_fp32": float(np.abs(logits - exact).max()),
        "pytorch_fp16_to_fp32": float(np.abs(half - exact).max()),
        "largest_logit": float(np.abs(exact).max()),
    }


def _dtype(device: str) -> Any:
    return torch.float32 if device == "cpu" else torch.float16


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
