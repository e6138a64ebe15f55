"""A raw onnxruntime session: the graph runs where it was asked to, or not at all.

onnxruntime falls back to the CPU in silence when a CUDA library is missing; here that is an error.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.batch import Feeds
from models.errors import ModelRuntimeError

#: Key of the label list in the metadata of a graph that `models.quantise` wrote.
LABELS_METADATA: Final = "tidegate.labels"
#: Input of a graph that reads n-grams (`models.language`) where others read tokens.
NGRAM_INPUT: Final = "ngrams"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


#: Operators that only fusing or our own writer makes; their number says whether it worked.
_FUSED: Final = frozenset(
    {"Attention", "MultiHeadAttention", "SkipLayerNormalization", "EmbedLayerNormalization",
     "BiasGelu", "FastGelu", "Gelu", "MatMulIntegerToFloat", "MatMulNBits"}
)  # fmt: skip


def fused_operators(graph: Path) -> dict[str, int]:
    """How many of each fused operator the graph in the file `graph` has."""
    import onnx

    nodes = onnx.load(graph, load_external_data=False).graph.node
    counts = Counter(node.op_type for node in nodes if node.op_type in _FUSED)
    return dict(sorted(counts.items()))


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


def choose_device(asked: str, runs_on: list[str], available: list[str]) -> tuple[str, int]:
    """(`cpu` or `cuda`, device number) for what was asked: `auto`, `cpu`, `cuda` or `cuda:n`.

    Args:
        asked: the setting `models.device`.
        runs_on: devices the model is made for, best first.
        available: onnxruntime's providers.

    Raises:
        ModelRuntimeError: what was asked for is not there.
    """
    if asked == "auto":
        device = next((d for d in runs_on if _PROVIDERS[d] in available), "cpu")
        return device, 0
    kind, _, number = asked.partition(":")
    if kind not in _PROVIDERS or (number and not number.isdigit()):
        raise ModelRuntimeError(
            f"no device `{asked}`", hint="choose `auto`, `cpu`, `cuda` or `cuda:1`"
        )
    if kind not in runs_on:
        raise ModelRuntimeError(
            f"the model is made for {' and '.join(f'`{d}`' for d in runs_on)}, not for `{kind}`",
            hint=f"use `--device {runs_on[0]}`, or a preset made for `{kind}`",
        )
    if _PROVIDERS[kind] not in available:
        raise ModelRuntimeError(
            f"device `{asked}` was asked for and this onnxruntime has no {_PROVIDERS[kind]}",
            hint="install the extra `gpu` instead of `cpu` (`pip uninstall onnxruntime`, then "
            "`pip install 'tidegate[gpu]'`), or use `--device cpu`",
        )
    return kind, int(number or 0)


class GraphSession:
    """One loaded graph. `run` releases the GIL while it computes."""

    def __init__(self, path: Path, *, device: str, runs_on: list[str], threads: int) -> None:
        try:
            import onnxruntime as ort
        except ImportError as exc:
            raise ModelRuntimeError(
                "onnxruntime is not installed",
                hint="`pip install 'tidegate[cpu]'`, or `'tidegate[gpu]'` on a machine with CUDA",
            ) from exc
        kind, number = choose_device(device, runs_on, ort.get_available_providers())
        providers: list[Any] = [_PROVIDERS["cpu"]]
        if kind == "cuda":
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()
            providers.insert(0, (_PROVIDERS["cuda"], {"device_id": str(number)}))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or available_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A thread that spins while it waits takes the core that tokenises and publishes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not has_vnni():
            # int8 products would saturate in AVX2's 16-bit sums. Where VNNI sums in 32 bits the
            # setting only costs: half the speed.
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as exc:  # onnxruntime raises a family of types with no common base
            raise ModelRuntimeError(
                f"onnxruntime cannot load the graph: {_first_line(exc)}",
                where=str(path),
                hint="`tidegate models verify` checks the files; `tidegate doctor` the runtime",
            ) from exc
        active = self._session.get_providers()[0]
        if active != _PROVIDERS[kind]:
            raise ModelRuntimeError(
                f"device `{kind}:{number}` was asked for and onnxruntime fell back to {active}",
                where=str(path),
                hint="a CUDA or cuDNN library of the wrong version is the usual reason: "
                "`python -c 'import onnxruntime; onnxruntime.print_debug_info()'` names it",
            )
        self.path = path
        self.device = kind if kind == "cpu" else f"{kind}:{number}"
        self._inputs = {node.name for node in self._session.get_inputs()}
        unknown = self._inputs - {"input_ids", "attention_mask", "token_type_ids", NGRAM_INPUT}
        if unknown:
            raise ModelRuntimeError(
                f"the graph wants the input `{min(unknown)}`, which no tokenizer gives",
                where=str(path),
                hint="export it as `text-classification`",
            )
        output = self._session.get_outputs()[0]
        self._output = [output.name]
        self.width = output.shape[-1] if isinstance(output.shape[-1], int) else None

    @property
    def labels(self) -> list[str] | None:
        """The labels the graph says its logits have (`task/label`), where it says so."""
        metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        labels = metadata.get(LABELS_METADATA)
        return None if labels is None else list(json.loads(labels))

    def run(self, batch: Feeds) -> NDArray[np.float32]:
        """Logits of one batch, shape (rows, width).

        Raises:
            ModelRuntimeError: the session failed.
        """
        feeds = dict(batch.feeds)
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = np.zeros_like(feeds["input_ids"])
        try:
            logits: NDArray[np.float32] = self._session.run(self._output, feeds)[0]
        except Exception as exc:  # onnxruntime raises a family of types with no common base
            rows, tokens = next(iter(feeds.values())).shape
            raise ModelRuntimeError(
                f"onnxruntime failed on {rows} texts of {tokens} tokens: {_first_line(exc)}",
                where=str(self.path),
                hint="if memory ran out, lower `models.batch_tokens`",
            ) from exc
        return logits.astype(np.float32, copy=False)


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0][:300]
