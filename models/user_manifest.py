"""The user's manifest: models are added to it, taken out of it; the bundled one is never written.

It extends the bundled manifest, so its presets may name bundled models. It is replaced in one
step: whoever reads it meanwhile sees the old one or the new one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from models.contradictions import member_tasks
from models.errors import ManifestError
from models.manifest import (
    Manifest,
    Model,
    bundled_manifest_path,
    load_manifest,
    user_manifest_path,
)
from models.manifest_writing import manifest_toml

#: The preset that answers the tasks which a model of one's own does not.
COMPLETED_BY: Final = "compact"


def writable_manifest(path: Path | None) -> Path:
    """The manifest to write to: `path`, else the user's.

    Raises:
        ManifestError: it is the bundled one.
    """
    path = path or user_manifest_path()
    if path.is_file() and path.resolve() == bundled_manifest_path().resolve():
        raise ManifestError(
            "the bundled manifest is not written to",
            where=str(path),
            hint=f"leave `--manifest` out for `{user_manifest_path()}`, which extends it",
        )
    return path


def slug(source: str) -> str:
    """A name for the model from its Hub id or folder."""
    last = source.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "model"


def own(path: Path) -> tuple[dict[str, list[str]], dict[str, Model], str | None]:
    """Presets and models that stand in the file itself, and what it extends."""
    if not path.is_file():
        return {}, {}, "bundled"
    whole = load_manifest(path)
    text = path.read_text("utf-8")
    extends = "bundled" if re.search(r"^extends\s*=", text, re.MULTILINE) else None
    if extends is None:
        return dict(whole.presets), dict(whole.models), None
    import tomllib

    raw = tomllib.loads(text)
    presets = {name: whole.presets[name] for name in raw.get("presets", {})}
    models = {name: whole.models[name] for name in raw.get("models", {})}
    return presets, models, "bundled"


def preset_around(name: str, tasks: Iterable[str], manifest: Manifest) -> list[str]:
    """Members of a preset: the model `name`, and the bundled ones for the tasks it lacks."""
    taken = set(tasks)
    members = [name]
    for member in manifest.presets.get(COMPLETED_BY, []):
        model, only = member_tasks(member)
        wanted = only or list(manifest.models[model].heads)
        left = [task for task in wanted if task not in taken]
        if left == list(manifest.models[model].heads):
            members.append(model)
        elif left:
            members.append(f"{model}:{','.join(left)}")
    return members


def add_model(path: Path, name: str, model: Model, *, preset: bool = True) -> str | None:
    """Write the model into the manifest; returns the preset that serves it, if one was made."""
    presets, models, extends = own(path)
    models[name] = model
    made = None
    if preset:
        bundled = load_manifest(bundled_manifest_path())
        known = {**bundled.models, **models}
        around = Manifest(path=path, presets={**bundled.presets, **presets}, models=known)
        members = preset_around(name, model.heads, around) if extends else [name]
        presets[name], made = members, name
    _write(path, presets, models, extends)
    return made


def remove_model(path: Path, name: str, *, keep_files: bool = False) -> list[Path]:
    """Take the model, its preset and its files out; returns the files.

    Raises:
        ManifestError: it is not the user's, or another preset needs it.
    """
    presets, models, extends = own(path)
    if name not in models:
        raise ManifestError(
            f"no model `{name}` of your own",
            where=str(path),
            hint="only what `tidegate models add` or `export` wrote can be removed"
            + (f": {', '.join(f'`{own_name}`' for own_name in models)}" if models else ""),
        )
    for preset, members in presets.items():
        if preset != name and name in {member_tasks(member)[0] for member in members}:
            raise ManifestError(
                f"preset `{preset}` needs the model `{name}`",
                where=str(path),
                hint=f"take it out of `{preset}` first",
            )
    model = models.pop(name)
    presets.pop(name, None)
    _write(path, presets, models, extends)
    folder = path.parent / model.folder
    files = [folder / file for file in model.files]
    if not keep_files:
        for file in files:
            file.unlink(missing_ok=True)
        if folder.is_dir() and path.parent.resolve() in folder.resolve().parents:
            shutil.rmtree(folder, ignore_errors=True)
    return files


def _write(
    path: Path, presets: dict[str, list[str]], models: dict[str, Model], extends: str | None
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(manifest_toml(presets, models, extends), "utf-8")
    try:
        load_manifest(part)  # what cannot be read back is not put in its place
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
