"""`tidegate models add | export | remove`: models of one's own, and those the manifest plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from models.errors import ParityError
from stream.cli.models_progress import steps_progress
from stream.cli.options import JsonOption
from stream.cli.output import print_json
from stream.errors import ConfigError
from stream.settings import load_settings

if TYPE_CHECKING:
    from models.adopt import Adopted, Adoption
    from models.parity import Bound

WriteManifestOption = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        help="Manifest to write to; default: `.tidegate/models/manifest.toml`.",
        show_default=False,
    ),
]
PostsOption = Annotated[
    str | None,
    typer.Option(
        "--posts",
        metavar="FILE",
        help="Real posts for the comparison and for int8's scales; default: the demo's.",
        show_default=False,
    ),
]
ForOption = Annotated[
    Literal["cpu", "gpu"],
    typer.Option("--for", help="cpu: O2, int8 where it works; gpu: O4, fp16."),
]
QuantiseOption = Annotated[
    Literal["auto", "none", "static", "dynamic"],
    typer.Option(help="auto: static int8 where architecture and comparison allow it, else fp32."),
]
ChangeOption = Annotated[
    float | None,
    typer.Option(help="Largest change of a score to let pass; default: by precision.", min=0, max=1, show_default=False),
]  # fmt: skip
AgreementOption = Annotated[
    float | None,
    typer.Option(help="Smallest share of equal labels; default: by precision.", min=0, max=1, show_default=False),
]  # fmt: skip
RevisionOption = Annotated[
    str | None,
    typer.Option(help="Branch, tag or commit on the Hub; default: main.", show_default=False),
]


def add(
    source: Annotated[str, typer.Argument(metavar="HUB_ID|DIR", show_default=False)],
    *,
    name: Annotated[
        str | None, typer.Option(help="In the manifest; default: from the source.", show_default=False)
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="sentiment, toxicity, language or a name of your own.", show_default=False),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="In the order of the logits; default: the model's own.", show_default=False),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=FIRST:END", help="One of several heads; may be repeated.", show_default=False),
    ] = None,
    activation: Annotated[
        Literal["softmax", "sigmoid"] | None,
        typer.Option(help="softmax: one answer; sigmoid: several at once.", show_default=False),
    ] = None,
    revision: RevisionOption = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=8, help="Of one window; default: the model's, at most 512.", show_default=False)
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Default: what the model's README says.", show_default=False)
    ] = None,
    target: ForOption = "cpu",
    optimise: Annotated[bool, typer.Option("--optimise/--no-optimise", help="Fuse operators.")] = True,
    quantise: QuantiseOption = "auto",
    posts: PostsOption = None,
    max_change: ChangeOption = None,
    min_agreement: AgreementOption = None,
    manifest: WriteManifestOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace one of the same name.")] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Add a classifier from the Hub or a folder: export, compare with PyTorch, write the entry.

    A preset of the model's name serves it, with the bundled model for the tasks it lacks. Exit
    code 3: the graph answers otherwise than the PyTorch model.
    """
    from models.adopt import Adoption, taken
    from models.checkpoint import Asked
    from models.user_manifest import slug, writable_manifest

    path = writable_manifest(manifest)
    chosen = name or slug(source)
    if taken(path, chosen) and not force:
        raise ConfigError(
            f"there is a model `{chosen}` already",
            where=str(path),
            hint="choose another `--name`, or replace it with `--force`",
        )
    asked = Asked(
        task=task,
        labels=_split(labels),
        activation=activation,
        heads=_heads(head),
        max_tokens=max_tokens,
        licence=licence,
    )
    what = Adoption(
        name=chosen,
        source=source,
        revision=revision,
        manifest=path,
        posts=_posts(posts),
        asked=asked,
        target=target,
        optimise=optimise,
        quantise=quantise,
        bound=_bound(max_change, min_agreement, target, quantise),
    )
    print_adopted(_run(what), as_json=as_json)


def export(
    name: Annotated[str, typer.Argument(help="A model of the manifest, or a preset.", show_default=False)],
    *,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="DIR", help="A local copy of the model; default: the Hub.", show_default=False),
    ] = None,
    revision: RevisionOption = None,
    target: ForOption = "cpu",
    quantise: QuantiseOption = "auto",
    posts: PostsOption = None,
    max_change: ChangeOption = None,
    min_agreement: AgreementOption = None,
    manifest: WriteManifestOption = None,
    force: Annotated[bool, typer.Option("--force", help="Also what is exported already.")] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Make the files of models that the manifest plans, such as those of the preset `hub`.

    The entries go into a manifest of your own that extends the bundled one.
    """
    from models.adopt import Adoption, plan_of
    from models.checkpoint import Asked
    from models.contradictions import member_tasks
    from models.manifest import load_manifest
    from models.user_manifest import writable_manifest

    path = writable_manifest(manifest)
    found = load_manifest(path if path.is_file() else load_settings().models.manifest)
    names = [member_tasks(m)[0] for m in found.presets.get(name, [name])]
    if source is not None and len(names) > 1:
        raise ConfigError(
            f"`{name}` is {len(names)} models and `--from` names one folder",
            hint=f"export them one by one: {', '.join(names)}",
        )
    made = []
    for each in names:
        if found.model(each).exported and not force:
            if name == each:
                raise ConfigError(
                    f"model `{each}` is exported already",
                    where=str(found.path),
                    hint="`--force` does it again",
                )
            continue
        plan = plan_of(found, each)
        assert plan.source is not None
        # A model of several heads says so itself; one of one head is asked for by the plan's task.
        only = next(iter(plan.heads)) if len(plan.heads) == 1 else None
        asked = Asked(task=only, labels=plan.heads[only].labels if only else None)
        what = Adoption(
            name=each,
            source=source or plan.source.id,
            revision=revision or (plan.source.revision if source is None else None),
            manifest=path,
            posts=_posts(posts),
            asked=asked,
            target=target,
            quantise=quantise,
            bound=_bound(max_change, min_agreement, target, quantise),
            preset=False,
            plan=plan,
        )
        made.append(_run(what))
    if as_json:
        print_json([_as_json(adopted) for adopted in made])
        return
    for adopted in made:
        print_adopted(adopted, as_json=False)
    Console(highlight=False).print(
        f"serve it: TIDEGATE_MODELS__MANIFEST={path} TIDEGATE_MODELS__PRESET={name}", soft_wrap=True
    )


def remove(
    name: Annotated[str, typer.Argument(help="The model's name in the manifest.", show_default=False)],
    *,
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Only forget it.")] = False,
    manifest: WriteManifestOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Take a model of your own out of the manifest, with its preset and its files."""
    from models.user_manifest import remove_model, writable_manifest

    path = writable_manifest(manifest)
    files = remove_model(path, name, keep_files=keep_files)
    if as_json:
        gone = [] if keep_files else [str(file) for file in files]
        print_json({"removed": name, "manifest": str(path), "files": gone})
        return
    kept = "kept" if keep_files else "removed"
    typer.echo(f"{name} taken out of {path}; {len(files)} files {kept}")


def _run(what: Adoption) -> Adopted:
    from models.adopt import adopt
    from stream.cli.main import print_error

    try:
        with steps_progress() as report:
            return adopt(what, report)
    except ParityError as error:
        print_error(error)
        raise typer.Exit(3) from None


def _posts(file: str | None) -> list[str]:
    """Texts of posts: of the file, else of the demo's feed."""
    from stream.bench.load import read_posts
    from stream.post_decoding import decode_post

    return [decode_post(value).text or "" for _, value in read_posts(file)]


def _split(labels: str | None) -> list[str] | None:
    return None if labels is None else [label.strip() for label in labels.split(",")]


def _heads(given: list[str] | None) -> dict[str, tuple[int, int]] | None:
    heads: dict[str, tuple[int, int]] = {}
    for item in given or []:
        task, _, numbers = item.partition("=")
        first, _, end = numbers.partition(":")
        if not task or not first.isdigit() or not end.isdigit():
            raise ConfigError(f"`{item}` is no head", hint="like `--head sentiment=0:3`")
        heads[task] = (int(first), int(end))
    return heads or None


def _bound(
    change: float | None, agreement: float | None, target: str, quantise: str
) -> Bound | None:
    if change is None and agreement is None:
        return None
    from models.parity import BOUNDS, Bound

    usual = {"static": "int8", "auto": "int8", "dynamic": "dynamic-int8"}.get(quantise, "fp32")
    known = BOUNDS["fp16" if target == "gpu" else usual]
    return Bound(
        known.change if change is None else change,
        known.agreement if agreement is None else agreement,
    )


def _as_json(adopted: Adopted) -> dict[str, Any]:
    return {
        "name": adopted.name,
        "manifest": str(adopted.manifest),
        "preset": adopted.preset,
        "model": adopted.model,
        "remarks": adopted.remarks,
    }


def print_adopted(adopted: Adopted, *, as_json: bool) -> None:
    """What came of it, and how to serve it."""
    if as_json:
        print_json(_as_json(adopted))
        return
    console = Console(highlight=False, soft_wrap=True)
    model, parity = adopted.model, adopted.model.parity
    console.print(f"{adopted.name}  {model.id} {model.version}", style="bold")
    console.print(f"{model.precision}, reads {model.max_tokens} tokens, licence: {model.licence}")
    for task, head in model.heads.items():
        shown = ", ".join(head.labels[:12]) + (" ..." if len(head.labels) > 12 else "")
        console.print(f"  {task}: {shown} ({head.activation})", markup=False)
    if parity is not None:
        console.print(
            f"against PyTorch on {parity.posts} posts: largest change of a score "
            f"{parity.largest_change:.6f}, labels equal {parity.agreement:.1%}"
        )
    for remark in adopted.remarks:
        console.print(f"note: {remark}", style="yellow", markup=False)
    console.print(f"written to {adopted.manifest}", markup=False)
    if adopted.preset is not None:
        console.print(
            f"serve it: TIDEGATE_MODELS__MANIFEST={adopted.manifest} "
            f"TIDEGATE_MODELS__PRESET={adopted.preset}",
            markup=False,
        )


def register(app: typer.Typer) -> None:
    """Add the commands to the group `models`."""
    app.command("add")(add)
    app.command("export")(export)
    app.command("remove")(remove)
