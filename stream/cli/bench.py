"""`tidegate bench`: how fast the stream and the models are on this machine, beside their limits."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from stream.cli.options import JsonOption, KafkaOption

app = typer.Typer(
    name="bench",
    help="Measure stream and models on this machine, each beside its limit in the same run.",
    no_args_is_help=True,
)

PostsOption = Annotated[
    str | None,
    typer.Option("--posts", metavar="FILE", help="Posts to use; default: the demo's.", show_default=False),
]  # fmt: skip
EventsOption = Annotated[int, typer.Option("--events", min=100, help="Posts of one run.")]
RoundsOption = Annotated[int, typer.Option("--rounds", min=1, help="Runs of each; medians count.")]
RatioOption = Annotated[
    float | None,
    typer.Option("--min-ratio", help="Exit with 3 when the ratio is lower.", show_default=False),
]


@app.command("stream")
def stream(
    *,
    posts: PostsOption = None,
    events: EventsOption = 200_000,
    rounds: RoundsOption = 5,
    batch_posts: Annotated[int, typer.Option(help="Most posts of one batch.")] = 2048,
    kafka: KafkaOption = None,
    min_ratio: RatioOption = None,
    as_json: JsonOption = False,
) -> None:
    """The worker with a null model, beside plain aiokafka and stock Faust.

    Without --kafka an embedded broker is started; a real Kafka is what the figures in the
    documentation are from. `--min-ratio` is to plain aiokafka. The worker scores in a process
    beside its own where there is more than one core; "one process" is without that.
    """
    from stream.bench.load import bench_broker, read_posts
    from stream.bench.measure import bench_stream

    values = read_posts(posts)
    with bench_broker(kafka) as bootstrap:
        result = bench_stream(
            bootstrap,
            values,
            events=events,
            rounds=rounds,
            batch_posts=batch_posts,
            report=_report,
        )
    cpu = result.cpu_us_per_post
    _print(
        result,
        as_json,
        ("", "posts/s", "CPU us/post", "worker is"),
        [
            ("worker", f"{result.worker:,.0f}", f"{cpu['worker']}", ""),
            (
                "worker, one process",
                f"{result.one_process:,.0f}",
                f"{cpu['one_process']}",
                f"{result.worker / result.one_process:.2f} x",
            ),
            (
                "plain aiokafka",
                f"{result.aiokafka:,.0f}",
                f"{cpu['aiokafka']}",
                f"{result.ratio_aiokafka:.2f} x",
            ),
            (
                "stock Faust",
                f"{result.stock_faust:,.0f}",
                f"{cpu['stock_faust']}",
                f"{result.ratio_stock:.0f} x",
            ),
            (
                "Faust without models",
                f"{result.raw_faust:,.0f}",
                f"{cpu['raw_faust']}",
                f"{result.ratio_raw:.0f} x",
            ),
        ],
    )
    _hold(result.ratio_aiokafka, min_ratio)


@app.command("model")
def model(
    *,
    posts: PostsOption = None,
    events: EventsOption = 2_000,
    rounds: RoundsOption = 5,
    kafka: KafkaOption = None,  # noqa: ARG001 - all four take the same options
    min_ratio: RatioOption = None,
    as_json: JsonOption = False,
) -> None:
    """The scoring path alone: session, with tokenising, with everything.

    It needs no broker: --kafka is taken, as by the other three, and changes nothing.
    """
    from models.benchmark import bench_model
    from stream.bench.load import read_posts
    from stream.post_decoding import decode_post
    from stream.settings import load_settings

    settings = load_settings().models
    values = read_posts(posts)
    texts = [decode_post(values[n % len(values)][1]).text or "" for n in range(events)]
    result = bench_model(
        texts,
        manifest=settings.manifest,
        preset=settings.preset,
        device=settings.device,
        threads=settings.threads,
        batch_tokens=settings.batch_tokens,
        runs=rounds,
    )
    _print(
        result,
        as_json,
        ("", "posts/s", "of the session"),
        [
            ("session", f"{result.session:,.1f}", ""),
            (
                "with tokenising",
                f"{result.with_tokenising:,.1f}",
                f"{result.with_tokenising / result.session:.3f}",
            ),
            ("scoring, all of it", f"{result.scoring:,.1f}", f"{result.ratio:.3f}"),
        ],
    )
    _hold(result.ratio, min_ratio)


@app.command("e2e")
def e2e(
    *,
    posts: PostsOption = None,
    events: EventsOption = 4_000,
    rounds: RoundsOption = 5,
    kafka: KafkaOption = None,
    min_ratio: RatioOption = None,
    as_json: JsonOption = False,
) -> None:
    """Topic to confirmed label with the real model, beside the scoring path alone."""
    from stream.bench.load import bench_broker, read_posts
    from stream.bench.measure import bench_end_to_end

    _log_warnings_only()
    values = read_posts(posts)
    with bench_broker(kafka) as bootstrap:
        result = bench_end_to_end(bootstrap, values, events=events, rounds=rounds, report=_report)
    _print(
        result,
        as_json,
        ("", "posts/s", "of scoring"),
        [
            ("scoring alone", f"{result.scoring:,.1f}", ""),
            ("end to end", f"{result.e2e:,.1f}", f"{result.ratio:.3f}"),
        ],
    )
    _hold(result.ratio, min_ratio)


@app.command("latency")
def latency(
    *,
    posts: PostsOption = None,
    seconds: Annotated[
        float, typer.Option(min=1, help="Length of each level, in each round.")
    ] = 10.0,
    events: Annotated[
        int | None,
        typer.Option(min=100, help="Posts of each level, instead.", show_default=False),
    ] = None,
    rounds: RoundsOption = 5,
    capacity: Annotated[
        float | None,
        typer.Option(help="Posts/s that count as 100 %; default: measured.", show_default=False),
    ] = None,
    kafka: KafkaOption = None,
    max_p99_ms: Annotated[
        float | None,
        typer.Option(help="Exit with 3 when p99 at half load is higher.", show_default=False),
    ] = None,
    min_ratio: RatioOption = None,
    as_json: JsonOption = False,
) -> None:
    """From posted to labelled at 10, 50 and 80 % of the capacity, with the real model.

    Posts are sent and labels read by this process, the worker is one of its own. The levels take
    turns; at last each is run once more, shorter, with a model that answers at once: what the way
    there and back costs. The ratio, that of `--min-ratio` at half load, is of that p50 to the model's.
    """
    from stream.bench.latency import Plan, bench_latency
    from stream.bench.load import bench_broker, read_posts

    _log_warnings_only()
    values = read_posts(posts)
    plan = Plan((0.1, 0.5, 0.8), rounds, seconds, capacity, events)
    with bench_broker(kafka) as bootstrap:
        result = bench_latency(bootstrap, values, plan, report=_report)
    _print(
        result,
        as_json,
        ("load", "posts/s", "p50 ms", "p95 ms", "p99 ms", "null model p50", "p99", "ratio"),
        [
            (
                f"{level.load:.0%}",
                f"{level.posts_per_s:,.0f}",
                f"{level.p50_ms:.1f}",
                f"{level.p95_ms:.1f}",
                f"{level.p99_ms:.1f}",
                f"{level.floor_p50_ms:.1f}",
                f"{level.floor_p99_ms:.1f}",
                f"{level.ratio:.2f}",
            )
            for level in result.levels
        ],
    )
    half = next(level for level in result.levels if level.load == 0.5)
    if max_p99_ms is not None and half.p99_ms > max_p99_ms:
        raise typer.Exit(3)
    _hold(half.ratio, min_ratio)


def _log_warnings_only() -> None:
    """The worker runs in this process: what it has to tell must not mix with the result."""
    from stream.logs import set_up_logs
    from stream.settings import LogSettings

    set_up_logs(LogSettings(level="warning", format="auto"))


def _report(line: str) -> None:
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        console.print(line, style="dim")


def _print(result: Any, as_json: bool, columns: tuple[str, ...], rows: list[Any]) -> None:
    from stream.cli.output import Align, print_json, print_table

    if as_json:
        print_json(result)
        return
    sides: list[Align] = ["left", *["right"] * (len(columns) - 1)]  # type: ignore[list-item]
    print_table(list(zip(columns, sides, strict=True)), rows)


def _hold(ratio: float, least: float | None) -> None:
    if least is not None and ratio < least:
        raise typer.Exit(3)
