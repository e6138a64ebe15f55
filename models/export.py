"""Exports a fine-tuned folder to plain fp32 ONNX with Optimum. Needs the extra `models`.

No optimisation here: `models.quantise` reads the plain export, and onnxruntime fuses what it can
when it loads a graph.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from models.errors import ModelBuildError

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
    with tempfile.TemporaryDirectory(dir=out) as folder:
        try:
            main_export(
                str(source), output=folder, task="text-classification", opset=_OPSET, device="cpu"
            )
        except Exception as exc:  # whatever torch, transformers or optimum raise
            raise ModelBuildError(f"the export failed: {exc}", where=str(source)) from exc
        target = out / "model.onnx"
        shutil.move(str(Path(folder) / "model.onnx"), target)
    return target
