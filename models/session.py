"""A raw onnxruntime session: the graph runs where it was asked to, or not at all.

onnxruntime falls back to the CPU in silence when a CUDA library is missing; here that is an error
where a GPU was asked for, and a remark where it was left to us.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.batch import Feeds
from models.buckets import in_bucket
from models.devices import (
    PROVIDERS,
    available_threads,
    choose_device,
    has_vnni,
    providers_of,
    what_is_missing,
)
from models.errors import ModelRuntimeError

#: Key of the label list in the metadata of a graph that `models.quantise` wrote.
LABELS_METADATA: Final = "tidegate.labels"
#: Input of a graph that reads n-grams (`models.language`) where others read tokens.
NGRAM_INPUT: Final = "ngrams"
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


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """How a graph runs, for logs and the System page."""

    file: str
    device: str
    provider: str
    sessions: int
    threads: int
    buckets: bool
    warm_up_s: float
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session works; None: as suits the device.

    Args:
        sessions: calls that overlap. Two on a GPU, whose single stream would wait for the host.
            On a CPU as many as there are threads, each call in one: two small calls side by side
            take half as long as one after the other in two threads (docs/performance.md).
        binding: give inputs and outputs as bound memory of the device.
        buckets: pad to fixed shapes (`models.buckets`).
    """

    sessions: int | None = None
    binding: bool | None = None
    buckets: bool | None = None


class GraphSession:
    """One loaded graph. `run` releases the GIL while it computes; any thread may call it.

    Args:
        path: the graph's file.
        device: the setting `models.device`.
        runs_on: devices the model is made for, best first.
        threads: of all calls together; 0: every core.
        pad_id: the tokenizer's padding.
        most_tokens: of a row.
        options: how it works.

    Raises:
        ModelRuntimeError: it cannot be loaded, or not where it was asked to run.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str,
        runs_on: list[str],
        threads: int,
        pad_id: int = 0,
        most_tokens: int | None = None,
        options: SessionOptions | None = None,
    ) -> None:
        try:
            import onnxruntime as ort
        except ImportError as exc:
            raise ModelRuntimeError(
                "onnxruntime is not installed",
                hint="`pip install 'tidegate[cpu]'`, or `'tidegate[gpu]'` on a machine with CUDA",
            ) from exc
        options = options or SessionOptions()
        kind, number = choose_device(device, runs_on, ort.get_available_providers())
        self.path = path
        self._ort = ort
        threads = threads or available_threads()
        count = self._share(threads, kind, options.sessions)
        first, remark = self._first(kind, number, fall_back=device == "auto" and "cpu" in runs_on)
        if remark is not None:
            kind = "cpu"
            count = self._share(threads, kind, options.sessions)
            first = self._load(kind, number)
        gpu = kind != "cpu"
        self.device = f"{kind}:{number}" if gpu else kind
        self._number = number
        self._buckets = gpu if options.buckets is None else options.buckets
        self._bound = gpu if options.binding is None else options.binding
        self.pad_id, self.most_tokens = pad_id, most_tokens
        self._inputs = {node.name for node in first.get_inputs()}
        unknown = self._inputs - {"input_ids", "attention_mask", "token_type_ids", NGRAM_INPUT}
        if unknown:
            raise ModelRuntimeError(
                f"the graph wants the input `{min(unknown)}`, which no tokenizer gives",
                where=str(path),
                hint="export it as `text-classification`",
            )
        output = first.get_outputs()[0]
        self._output = output.name
        self.width = output.shape[-1] if isinstance(output.shape[-1], int) else None
        metadata: Mapping[str, str] = first.get_modelmeta().custom_metadata_map
        self._labels = metadata.get(LABELS_METADATA)
        self._free: SimpleQueue[Any] = SimpleQueue()
        self._free.put(first)
        for _ in range(count - 1):
            # A session of the CPU runs in whichever threads call it, and its weights are there once.
            self._free.put(self._load(kind, number) if gpu else first)
        # Its threads end with the process; there is nothing in them that could be lost.
        self._workers = ThreadPoolExecutor(count, "session") if count > 1 else None
        began = time.perf_counter()
        self._warm_up(count)
        self.facts = SessionFacts(
            file=path.name,
            device=self.device,
            provider=first.get_providers()[0],
            sessions=count,
            threads=self._threads,
            buckets=self._buckets,
            warm_up_s=round(time.perf_counter() - began, 3),
            remark=remark,
        )

    def _share(self, threads: int, kind: str, sessions: int | None) -> int:
        """How many calls overlap; the threads are shared among those of a CPU."""
        count = sessions or (2 if kind != "cpu" else threads)
        self._threads = threads if kind != "cpu" else max(1, threads // count)
        return count

    def _first(self, kind: str, number: int, *, fall_back: bool) -> tuple[Any, str | None]:
        """The session, and why it is not where it should be, where it may be elsewhere."""
        try:
            session = self._load(kind, number)
        except ModelRuntimeError as exc:
            if not fall_back or kind == "cpu":
                raise
            return None, f"the GPU cannot be used: {exc.message}"
        active = session.get_providers()[0]
        if active == PROVIDERS[kind]:
            return session, None
        missing = "; ".join(what_is_missing(kind))
        if fall_back and active == PROVIDERS["cpu"]:
            return session, f"onnxruntime fell back to the CPU: {missing}"
        raise ModelRuntimeError(
            f"device `{kind}:{number}` was asked for and onnxruntime fell back to {active}: {missing}",
            where=str(self.path),
            hint="a CUDA or cuDNN library of the wrong version is the usual reason: "
            "`python -c 'import onnxruntime; onnxruntime.print_debug_info()'` names it",
        )

    def _load(self, kind: str, number: int) -> Any:
        ort = self._ort
        # Besides the sessions' own log: 1.31 warns of each GPU provider that is not a plug-in.
        ort.set_default_logger_severity(3)
        if kind != "cpu" and hasattr(ort, "preload_dlls"):
            # It prints what it cannot load, and standard output is for data.
            with redirect_stdout(sys.stderr):
                ort.preload_dlls()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A thread that spins while it waits takes the core that tokenises and publishes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not has_vnni():
            # int8 products would saturate in AVX2's 16-bit sums. Where VNNI sums in 32 bits the
            # setting only costs: half the speed.
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            # Its own fallback would go on on the CPU, also in the middle of the work.
            return ort.InferenceSession(
                str(self.path), options, providers=providers_of(kind, number), enable_fallback=0
            )
        except Exception as exc:  # onnxruntime raises a family of types with no common base
            on = "" if kind == "cpu" else f" on `{kind}:{number}`"
            raise ModelRuntimeError(
                f"onnxruntime cannot load the graph{on}: {_first_line(exc)}",
                where=str(self.path),
                hint="`tidegate models verify` checks the files; `tidegate doctor` the runtime",
            ) from exc

    def _warm_up(self, sessions: int) -> None:
        """One small run of each session: kernels are chosen and memory is taken before the first post."""
        if "input_ids" not in self._inputs:
            return
        ids = np.full((1, 2), self.pad_id, dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        for _ in range(sessions):
            # The queue gives each session once in as many runs.
            self._infer(feeds)

    @property
    def labels(self) -> list[str] | None:
        """The labels the graph says its logits have (`task/label`), where it says so."""
        return None if self._labels is None else list(json.loads(self._labels))

    def run(self, batch: Feeds) -> NDArray[np.float32]:
        """Logits of one batch, shape (rows, width).

        Raises:
            ModelRuntimeError: the session failed.
        """
        return self._infer(batch.feeds)

    def run_all(self, batches: Sequence[Feeds]) -> Iterator[tuple[Feeds, NDArray[np.float32]]]:
        """Every batch with its logits, in order; on several sessions at once where there are any.

        Raises:
            ModelRuntimeError: a session failed.
        """
        if self._workers is None or len(batches) < 2:
            return ((batch, self.run(batch)) for batch in batches)
        return zip(batches, self._workers.map(self.run, batches), strict=True)

    def _infer(self, given: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        feeds = dict(given)
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = np.zeros_like(feeds["input_ids"])
        rows = len(next(iter(feeds.values())))
        if self._buckets:
            feeds = in_bucket(feeds, self.pad_id, self.most_tokens)
        session = self._free.get()
        try:
            logits = self._bound_run(session, feeds) if self._bound else self._run(session, feeds)
        except Exception as exc:  # onnxruntime raises a family of types with no common base
            count, tokens = next(iter(feeds.values())).shape
            raise ModelRuntimeError(
                f"onnxruntime failed on {count} texts of {tokens} tokens: {_first_line(exc)}",
                where=str(self.path),
                hint="if memory ran out, lower `models.batch_tokens`",
            ) from exc
        finally:
            self._free.put(session)
        return logits[:rows].astype(np.float32, copy=False)

    def _run(self, session: Any, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run([self._output], feeds)[0]
        return logits

    def _bound_run(self, session: Any, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """With inputs copied to the device once, and the output left there until it is read."""
        kind = "cpu" if self.device == "cpu" else "cuda"
        binding = session.io_binding()
        for name, values in feeds.items():
            value = self._ort.OrtValue.ortvalue_from_numpy(values, kind, self._number)
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(self._output, kind, self._number)
        session.run_with_iobinding(binding)
        logits: NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
        return logits


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0][:300]
