"""Exports a fine-tuned folder to plain fp32 ONNX with Optimum, and optimises such a graph.

`models.quantise` reads the plain export, never an optimised one. Needs the extra `models`.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from models.errors import ModelBuildError
from models.session import LABELS_METADATA, fused_operators

#: The newest operator set that both Optimum's export and `models.encoder` were tried with.
_OPSET = 17


def export_fp32(source: Path, out: Path) -> Path:
    """Export the model in the folder `source` (as `fit` or the Hub gives it) to `out`/model.onnx.

    Returns the file; it is there only when the export went through.

    Raises:
        ModelBuildError: the extra is not installed, or the folder is not a model.
    """
    if not (source / "config.json").is_file():
        raise ModelBuildError(
            "no `config.json`: this is not a model's folder",
            where=str(source),
            hint="`tidegate models build` fine-tunes one",
        )
    try:
        from optimum.exporters.onnx import main_export
    except ImportError as exc:
        raise ModelBuildError(
            f"the export needs a package that is not installed: {exc.name}",
            hint="`pip install 'tidegate[models]'`",
        ) from exc
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder, _quiet():
        try:
            # Parity is checked on real posts later (`models.parity`), not on random numbers here.
            main_export(
                str(source),
                output=folder,
                task="text-classification",
                opset=_OPSET,
                device="cpu",
                do_validation=False,
                trust_remote_code=False,
            )
        except Exception as exc:  # whatever torch, transformers or optimum raise
            raise ModelBuildError(f"the export failed: {exc}", where=str(source)) from exc
        target = out / "model.onnx"
        shutil.move(str(Path(folder) / "model.onnx"), target)
    return target


def optimise(source: Path, config: Path, out: Path, level: Literal["O2", "O4"]) -> dict[str, int]:
    """Write `source` with its operators fused to `out`; returns how many of each were fused.

    Args:
        source: what `export_fp32` wrote.
        config: the model's `config.json`.
        out: the file to write.
        level: O2 for CPUs (exact), O4 for GPUs (fp16, the fast form of GELU).

    Raises:
        ModelBuildError: the graph cannot be optimised.
    """
    from optimum.onnxruntime import AutoOptimizationConfig, ORTOptimizer

    with tempfile.TemporaryDirectory(dir=out.parent) as name, _quiet():
        folder = Path(name)
        shutil.copyfile(source, folder / "model.onnx")
        shutil.copyfile(config, folder / "config.json")
        try:
            optimizer = ORTOptimizer.from_pretrained(folder, file_names=["model.onnx"])
            settings = getattr(AutoOptimizationConfig, level)()
            optimizer.optimize(settings, save_dir=folder / "fused", file_suffix="")
        except Exception as exc:  # whatever optimum and onnxruntime raise
            raise ModelBuildError(
                f"the graph cannot be optimised ({level}): {exc}",
                where=str(source),
                hint="`--optimise none` serves it as it was exported",
            ) from exc
        shutil.move(str(folder / "fused" / "model.onnx"), out)
    return fused_operators(out)


def quantise_dynamic(source: Path, out: Path) -> None:
    """Write `source` with int8 products whose scales are measured while scoring.

    A post's score then depends on its batch-mates (docs/models/quantisation.md): only on demand.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            source,
            out,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def write_labels(graph: Path, labels: Sequence[str]) -> None:
    """Put `task/label` of every logit into the graph's metadata, for the scorer to compare.

    Raises:
        ModelBuildError: the graph has another number of logits.
    """
    import onnx

    model = onnx.load(graph)
    width = model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    if width and width != len(labels):
        raise ModelBuildError(
            f"{len(labels)} labels do not match a graph of {width} logits", where=str(graph)
        )
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**metadata, LABELS_METADATA: json.dumps(list(labels))})
    part = graph.with_suffix(".part")
    onnx.save(model, part)
    part.replace(graph)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch, transformers, optimum and onnxruntime warn of each other; what fails is raised."""
    loggers = [logging.getLogger(name) for name in ("optimum", "transformers", "onnxruntime", "")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
