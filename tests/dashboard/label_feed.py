"""Label records as a worker would make them: many languages, a calm stretch, a wave of abuse.

Deterministic for a seed. The texts are made up here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from stream.records import (
    LABEL_SCHEMA,
    Author,
    Label,
    ModelRef,
    Origin,
    Post,
    TaskLabel,
    encode,
    label_id,
    rfc3339,
)

MODELS = {
    task: ModelRef(id="tidegate/compact", version="2026.11")
    for task in ("language", "sentiment", "toxicity")
}
SOURCES = ("bluesky", "mastodon", "forum")
AUTHORS = tuple(
    f"{name}{n}" for n in range(1, 9) for name in ("mara", "teo", "ines", "kofi", "yuki")
)
TEXTS: dict[str, tuple[tuple[str, str], ...]] = {
    "en": (
        ("positive", "The new tram line is open and the ride along the river is lovely."),
        ("neutral", "Maintenance window tonight between two and four, see the status page."),
        ("negative", "Third delay this week and nobody at the station knows why."),
        ("positive", "Finally finished the garden shed. My neighbour helped and it shows #diy"),
        ("neutral", "Does anybody know whether the library opens on Sunday?"),
    ),
    "es": (
        ("positive", "Qué concierto tan bonito, la banda tocó dos horas sin parar."),
        ("negative", "Otra vez sin internet, llevo toda la mañana esperando."),
    ),
    "fr": (
        ("positive", "Le marché de Noël est magnifique cette année !"),
        ("neutral", "Le bus 42 passe désormais par la place du théâtre."),
    ),
    "de": (
        ("negative", "Schon wieder ist der Aufzug am Bahnhof kaputt."),
        ("positive", "Heute frische Brezeln vom Bäcker, der Tag ist gerettet."),
    ),
    "pt": (("positive", "A praia estava linda hoje, água quentinha e pouca gente."),),
    "it": (("neutral", "Domani sciopero dei treni dalle nove alle diciassette."),),
    "ja": (("positive", "新しいカフェのケーキがとても美味しかったです。"),),
    "ar": (("positive", "الطقس جميل اليوم والحديقة مليئة بالأطفال."),),
    "hi": (("neutral", "आज शाम को पुस्तकालय में कविता पाठ है।"),),
    "tr": (("negative", "Kargo üç gündür gelmedi, kimse cevap vermiyor."),),
    "uk": (("positive", "Нарешті перший сніг, діти у захваті!"),),
    "sw": (("neutral", "Mkutano wa kijiji utafanyika kesho saa nne asubuhi."),),
}
ABUSE = (
    ("insult", "en", "You absolute turnip, nobody asked for your rotten opinion."),
    ("insult", "en", "Go away you brainless noodle, everyone here is laughing at you."),
    ("toxic", "en", "What a pile of garbage, and so are the clowns who wrote it."),
    ("threat", "en", "We know where you park. Better watch your tyres tonight."),
    ("insult", "es", "Eres un melón con patas, cállate de una vez."),
    ("obscene", "de", "So ein verdammter Mist, ihr Vollpfosten."),
)


@dataclass(frozen=True)
class Made:
    """A record and where on `labels` it belongs."""

    partition: int
    label: Label

    @property
    def value(self) -> bytes:
        return encode(self.label)


def label_of(
    n: int,
    *,
    posted_ms: int,
    rng: random.Random,
    partitions: int = 4,
    abusive: bool | None = None,
    post_id: str | None = None,
    text: str | None = None,
    author: str | Author | None = None,
    retracted: bool = False,
    latency_ms: int | None = None,
    prefix: str = "",
) -> Made:
    """The label record of post number `n`."""
    author = author or rng.choice(AUTHORS)
    source = rng.choices(SOURCES, (6, 3, 1))[0]
    partition = n % partitions
    post_id = post_id or f"{source}:{n}"
    origin = Origin(
        topic=f"{prefix}posts", partition=partition, offset=n // partitions, timestamp_ms=posted_ms
    )
    if latency_ms is None:
        latency_ms = int(rng.lognormvariate(4.2, 0.5))
    common = {
        "schema": LABEL_SCHEMA,
        "label_id": label_id(post_id, origin),
        "post_id": post_id,
        "models": MODELS,
        "labelled_at": rfc3339(posted_ms + latency_ms),
        "posted_at": rfc3339(posted_ms),
        "origin": origin,
    }
    if retracted:
        post = Post(id=post_id, op="delete", source=source)
        return Made(partition, Label(**common, labels={}, post=post, retracted=True))  # type: ignore[arg-type]
    if abusive if abusive is not None else rng.random() < 0.03:
        toxicity, language, made_up = rng.choice(ABUSE)
        sentiment, score = "negative", rng.uniform(0.62, 0.99)
    else:
        weights = [10, 4, 3, 3, 2, 2, 2, 1, 1, 1, 1, 1]
        language = rng.choices(list(TEXTS), weights)[0]
        sentiment, made_up = rng.choice(TEXTS[language])
        toxicity, score = "none", rng.uniform(0.001, 0.2)
    labels = {
        "language": TaskLabel(label=language, score=round(rng.uniform(0.8, 0.999), 4)),
        "sentiment": _sentiment(sentiment, rng),
        "toxicity": _toxicity(toxicity, score, rng, unsupported=language == "sw"),
    }
    post = Post(
        id=post_id,
        text=made_up if text is None else text,
        source=source,
        author=author,
        created_at=rfc3339(posted_ms - 400),
        langs=[language],
    )
    return Made(partition, Label(**common, labels=labels, post=post))  # type: ignore[arg-type]


def _sentiment(label: str, rng: random.Random) -> TaskLabel:
    score = rng.uniform(0.55, 0.97)
    rest = [name for name in ("negative", "neutral", "positive") if name != label]
    share = rng.uniform(0.2, 0.8) * (1 - score)
    scores = {label: score, rest[0]: share, rest[1]: 1 - score - share}
    return TaskLabel(label=label, score=score, scores={k: round(v, 4) for k, v in scores.items()})


def _toxicity(label: str, score: float, rng: random.Random, *, unsupported: bool) -> TaskLabel:
    names = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_attack")
    scores = {name: round(rng.uniform(0, 0.4) * score, 4) for name in names}
    if label != "none":
        scores["toxic"] = round(score * 0.97, 4)
        scores[label] = round(score, 4)
    else:
        scores["toxic"] = round(score, 4)
    return TaskLabel(label=label, score=score, scores=scores, unsupported=unsupported)


def stream_of(
    count: int,
    *,
    start_ms: int,
    posts_per_s: float = 20.0,
    seed: int = 1,
    partitions: int = 4,
    wave: tuple[float, float] | None = None,
    first: int = 0,
    prefix: str = "",
) -> Iterator[Made]:
    """`count` labels in the order of their posts; in the `wave` (from, to seconds) half is abuse."""
    rng = random.Random(seed)
    for n in range(first, first + count):
        at_s = (n - first) / posts_per_s
        abusive = rng.random() < 0.45 if wave and wave[0] <= at_s < wave[1] else None
        yield label_of(
            n,
            posted_ms=start_ms + int(at_s * 1000),
            rng=rng,
            partitions=partitions,
            abusive=abusive,
            prefix=prefix,
        )
