"""Trains the language model: a vector for each known n-gram, their mean, one linear layer.

The shape is fastText's (Joulin et al. 2017); what differs is that an n-gram the training texts do
not have is left out instead of sharing a vector with another. Every epoch draws its texts anew:
whole sentences, runs of a few words, words of the frequency lists, and letters at random as `und`.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from models.language.gibberish import gibberish
from models.language.ngrams import letters, ngrams
from models.language.pieces import UNSPACED, piece
from models.language.vocabulary import Vocabulary, build_vocabulary
from models.manifest import UNDETERMINED
from models.training.data import find_part, read_tsv

#: Letters of the pieces of a sentence in an unspaced script; 0: the whole sentence.
LENGTHS: Final = (0, 1, 1, 2, 2, 3, 5)
_UNSPACED_VARIANTS: Final = 4
_CHUNK = 4096
#: Decay of Adam's averages of the gradient and of its square.
_ADAM: Final = (0.9, 0.999)
Report = Callable[[float, str], None]
Longs = NDArray[np.int64]


class Ragged(NamedTuple):
    """Rows of different length, one after the other; row i is `values[ends[i-1]:ends[i]]`."""

    values: NDArray[Any]
    ends: Longs

    @property
    def starts(self) -> Longs:
        """Where each row begins."""
        starts = np.zeros_like(self.ends)
        starts[1:] = self.ends[:-1]
        return starts


def runs(starts: Longs, lengths: Longs) -> Longs:
    """The numbers of all runs `start, start + 1, ...`, one run after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(total)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts as runs of word numbers, and how to draw from them.

    `first` and `label` are of sentences: text number and language; a sentence of an unspaced script has its
    pieces as texts of their own behind `first`. `listed` are the frequency lists. `prior` is the
    logarithm of each language's number of sentences over the largest, 0 for `und`.
    """

    labels: list[str]
    words: list[str]
    texts: Ragged
    first: Longs
    unspaced: NDArray[np.bool_]
    label: Longs
    listed: Longs
    listed_label: Longs
    listed_count: NDArray[np.float64]
    gibberish: Longs
    prior: NDArray[np.float64]


def read_corpus(data: Path, settings: Mapping[str, Any]) -> Corpus:
    """The training texts in the folder `data` as words."""
    rng = random.Random(settings["seed"])
    sentences = [(r["lang"], r["text"]) for r in read_tsv(find_part(data, "language", "train"))]
    counts = Counter(lang for lang, _ in sentences)
    labels = sorted(lang for lang, count in counts.items() if count >= settings["min_rows"])
    known = set(labels)
    posts: dict[str, list[str]] = {}
    for row in read_tsv(find_part(data, "sentiment", "train")):
        posts.setdefault(row["lang"], []).append(row["text"])
    for lang, written in sorted(posts.items()):
        kept = rng.sample(written, min(settings["posts_per_language"], len(written)))
        sentences += [(lang, text) for text in kept]
    sentences = [(lang, text) for lang, text in sentences if lang in known]
    labels.append(UNDETERMINED)
    index = {label: number for number, label in enumerate(labels)}

    texts: list[str] = []
    first: list[int] = []
    for lang, text in sentences:
        first.append(len(texts))
        if lang in UNSPACED:
            for words in LENGTHS:
                texts += [
                    piece(text, lang, words, rng) if words else text
                    for _ in range(_UNSPACED_VARIANTS)
                ]
        else:
            texts.append(text)
    listed = [r for r in read_tsv(find_part(data, "language", "words")) if r["lang"] in known]
    begin = len(texts)
    texts += [row["word"] for row in listed]
    noise = len(texts)
    texts += [gibberish(rng) for _ in range(settings["gibberish"])]

    numbers: dict[str, int] = {}
    values: list[int] = []
    ends: list[int] = []
    for start in range(0, len(texts), _CHUNK):
        for line in _lines(texts[start : start + _CHUNK]):
            values += [numbers.setdefault(word, len(numbers)) for word in line.split()]
            ends.append(len(values))
    return Corpus(
        labels=labels,
        words=list(numbers),
        texts=Ragged(np.array(values), np.array(ends)),
        first=np.array(first),
        unspaced=np.array([lang in UNSPACED for lang, _ in sentences]),
        label=np.array([index[lang] for lang, _ in sentences]),
        listed=np.arange(begin, noise),
        listed_label=np.array([index[row["lang"]] for row in listed]),
        listed_count=np.array([float(row["count"]) for row in listed]),
        gibberish=np.arange(noise, len(texts)),
        prior=np.array([*np.log([counts[lang] / max(counts.values()) for lang in labels[:-1]]), 0]),
    )


def _lines(texts: Sequence[str]) -> list[str]:
    return letters(texts).tobytes().decode("utf-32-le").split("\n")[:-1]


def word_hashes(words: Sequence[str]) -> Ragged:
    """The n-grams of each word, as hashes."""
    values, sizes = [], []
    for start in range(0, len(words), _CHUNK):
        part = words[start : start + _CHUNK]
        found = ngrams(part)
        order = np.argsort(found.texts, kind="stable")
        values.append(found.hashes[order])
        sizes.append(np.bincount(found.texts, minlength=len(part)))
    return Ragged(np.concatenate(values), np.cumsum(np.concatenate(sizes)))


def language_weights(corpus: Corpus, power: float) -> NDArray[np.float64]:
    """Weight of a sentence of each language: the number of its sentences to the power `-power`."""
    rows = np.bincount(corpus.label, minlength=len(corpus.labels)).astype(np.float64)
    return np.where(rows > 0, np.maximum(rows, 1.0) ** -power, 0.0)


def choose_vocabulary(
    corpus: Corpus, hashes: Ragged, settings: Mapping[str, Any]
) -> tuple[Vocabulary, int]:
    """The n-grams that get a vector: the most frequent ones, every language's texts weighed alike."""
    weights = language_weights(corpus, 0.6)
    worth: NDArray[Any] = np.zeros(len(corpus.words))
    times: NDArray[Any] = np.zeros(len(corpus.words))
    starts, lengths = corpus.texts.starts, np.diff(corpus.texts.ends, prepend=0)
    for ids, weight in (
        (corpus.first, weights[corpus.label]),
        (corpus.listed, weights[corpus.listed_label]),
    ):
        at: Longs = corpus.texts.values[runs(starts[ids], lengths[ids])]
        worth += np.bincount(at, weights=np.repeat(weight, lengths[ids]), minlength=len(worth))
        times += np.bincount(at, minlength=len(times))
    # Pieces of unspaced scripts and gibberish are words that nothing above counts.
    sizes = np.diff(hashes.ends, prepend=0)
    unique, at = np.unique(hashes.values, return_inverse=True)
    worth = np.bincount(at, weights=np.repeat(worth, sizes))
    times = np.bincount(at, weights=np.repeat(times, sizes))
    often = np.flatnonzero(times >= settings["min_times"])
    best = often[np.argsort(-worth[often], kind="stable")]
    slots: int = settings["slots"]
    chosen = best[: int(slots * settings["load"])]
    return build_vocabulary(unique[chosen], slots), len(often)


class Draws:
    """Draws batches of (rows of n-grams, starts of texts, labels).

    `settings["lengths"]` are the words of a drawn text, each as often as it stands there, 0 for a
    whole sentence; where the script has no spaces, the pieces of `LENGTHS` in the same place.
    """

    def __init__(
        self, corpus: Corpus, rows: Ragged, settings: Mapping[str, Any], seed: int
    ) -> None:
        self.corpus = corpus
        self.rows = rows
        self.settings = settings
        self.rng = np.random.default_rng(seed)
        self._lengths = np.array(settings["lengths"])
        assert len(self._lengths) == len(LENGTHS)
        weights = language_weights(corpus, settings["balance"])[corpus.label]
        self._cumulated = np.cumsum(weights / weights.sum())
        rows_of = np.bincount(corpus.label, minlength=len(corpus.labels))
        scale = language_weights(corpus, settings["balance"]) * rows_of
        frequency = corpus.listed_count ** settings["word_power"]
        total = np.bincount(corpus.listed_label, weights=frequency, minlength=len(corpus.labels))
        listed = scale[corpus.listed_label] * frequency / total[corpus.listed_label]
        self._listed_cumulated = np.cumsum(listed / listed.sum())
        # The lists' share of the draws follows from the languages that have one.
        share = scale[np.unique(corpus.listed_label)].sum() / scale.sum()
        self._listed_share = settings["listed"] * share
        self._word_starts = corpus.texts.starts
        self._word_counts = np.diff(corpus.texts.ends, prepend=0)
        self._row_starts = rows.starts
        self._row_counts = np.diff(rows.ends, prepend=0)

    def batch(self, size: int) -> tuple[Longs, Longs, Longs]:
        """(rows, start of each text among them, labels) of `size` texts."""
        corpus, rng = self.corpus, self.rng
        kinds = rng.random(size)
        noisy = kinds < self.settings["gibberish_share"]
        listed = ~noisy & (kinds < self.settings["gibberish_share"] + self._listed_share)
        pick = np.searchsorted(self._cumulated, rng.random(size)).clip(0, len(corpus.first) - 1)
        label = corpus.label[pick]
        kind = rng.integers(0, len(LENGTHS), size)
        wanted = self._lengths[kind]
        text = corpus.first[pick]
        variant = kind * _UNSPACED_VARIANTS + rng.integers(0, _UNSPACED_VARIANTS, size)
        text = np.where(corpus.unspaced[pick], text + variant, text)
        some = np.searchsorted(self._listed_cumulated, rng.random(size)).clip(
            0, len(corpus.listed) - 1
        )
        text = np.where(listed, corpus.listed[some], text)
        label = np.where(listed, corpus.listed_label[some], label)
        text = np.where(noisy, rng.choice(corpus.gibberish, size), text)
        label = np.where(noisy, len(corpus.labels) - 1, label)
        there = self._word_counts[text]
        whole = (wanted == 0) | corpus.unspaced[pick] | noisy | listed | (there < wanted)
        length = np.where(whole, there, wanted)
        start = self._word_starts[text] + np.where(
            whole, 0, (rng.random(size) * (there - length + 1)).astype(np.int64)
        )
        words = corpus.texts.values[runs(start, length)]
        counts = self._row_counts[words]
        rows = self.rows.values[runs(self._row_starts[words], counts)]
        owner = np.repeat(np.repeat(np.arange(size), length), counts)
        keep = (rows >= 0) & (rng.random(len(rows), np.float32) >= self.settings["dropout"])
        rows, owner = rows[keep].astype(np.int64), owner[keep]
        sizes = np.bincount(owner, minlength=size)
        filled = sizes > 0
        return rows, (np.cumsum(sizes) - sizes)[filled], label[filled]


class LanguageNet:
    """Mean of the vectors of a text's n-grams, a linear layer, and a hidden layer beside it.

    Vectors and linear layer learn together, with Adam; of the table only the rows of a batch are
    moved, their averages too (as torch's `SparseAdam`, in less time on one core).
    """

    def __init__(self, rows: int, size: int, labels: int) -> None:
        self.table = torch.empty(rows, size).normal_(std=0.1)
        self.linear = nn.Linear(size, labels)
        nn.init.zeros_(self.linear.weight)
        self.hidden: nn.Linear | None = None
        self.out: nn.Linear | None = None
        self.restart()

    def restart(self) -> None:
        """Forget the averages: a stage begins."""
        self._mean = torch.zeros_like(self.table)
        self._square = torch.zeros_like(self.table)
        self._adam = torch.optim.Adam(self.linear.parameters(), lr=0.0)
        self._steps = 0

    @torch.no_grad()  # type: ignore[untyped-decorator]  # torch has no types here
    def pooled(self, rows: Longs, starts: Longs) -> torch.Tensor:
        """The mean vector of each text."""
        return functional.embedding_bag(
            torch.from_numpy(rows), self.table, torch.from_numpy(starts), mode="mean"
        )

    def answer(self, pooled: torch.Tensor) -> torch.Tensor:
        """The logits of mean vectors."""
        logits: torch.Tensor = self.linear(pooled)
        if self.hidden is None or self.out is None:
            return logits
        return logits + self.out(torch.relu(self.hidden(pooled)))

    def step(self, rows: Longs, starts: Longs, labels: Longs, rate: float) -> float:
        """Learn from one batch; returns the loss."""
        sizes = np.diff(starts, append=len(rows))
        bags = self.pooled(rows, starts)
        bags.requires_grad_()
        self._adam.param_groups[0]["lr"] = rate
        self._adam.zero_grad()
        loss = functional.cross_entropy(self.linear(bags), torch.from_numpy(labels))
        loss.backward()
        self._adam.step()
        assert bags.grad is not None
        shares = bags.grad / torch.from_numpy(sizes)[:, None]
        self._move(rows, np.repeat(np.arange(len(sizes)), sizes), shares, rate)
        return float(loss.detach())

    @torch.no_grad()  # type: ignore[untyped-decorator]  # torch has no types here
    def _move(self, rows: Longs, owner: Longs, shares: torch.Tensor, rate: float) -> None:
        self._steps += 1
        distinct, place = (torch.from_numpy(x) for x in np.unique(rows, return_inverse=True))
        change = torch.zeros(len(distinct), shares.shape[1])
        change.index_add_(0, place, shares[torch.from_numpy(owner)])
        first, second = _ADAM
        mean = self._mean[distinct].lerp_(change, 1 - first)
        square = self._square[distinct].mul_(second).addcmul_(change, change, value=1 - second)
        self._mean[distinct] = mean
        self._square[distinct] = square
        rate *= math.sqrt(1 - second**self._steps) / (1 - first**self._steps)
        self.table.index_add_(0, distinct, mean.div_(square.sqrt_().add_(1e-8)), alpha=-rate)


def batches(draws: Draws, steps: int, size: int) -> Iterator[tuple[Longs, Longs, Longs]]:
    """Batches made one ahead, while the net learns from the last."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(draws.batch, size)
        for step in range(steps):
            ready = following.result()
            if step + 1 < steps:
                following = pool.submit(draws.batch, size)
            yield ready


def train(
    corpus: Corpus, rows: Ragged, slots: int, settings: Mapping[str, Any], report: Report
) -> LanguageNet:
    """The trained net; `report` is told the share that is done and a remark.

    First the stages: the rate rises for `warmup` steps, stays, and falls to 0 over the last part
    (`decay`). Then, on vectors that stay, both layers once more. At last a part of the languages'
    frequency, which the draws had levelled, goes back into the bias.
    """
    torch.manual_seed(settings["seed"])
    # Two threads spend more on waiting for each other than they win; the second core draws.
    torch.set_num_threads(1)
    net = LanguageNet(slots, settings["size"], len(corpus.labels))
    all_draws = sum(stage["draws"] for stage in settings["stages"])
    done = 0
    for number, stage in enumerate(settings["stages"]):
        net.restart()
        size: int = stage["batch"]
        steps = stage["draws"] // size
        draws = Draws(corpus, rows, {**settings, **stage}, settings["seed"] + number)
        average, began = 0.0, time.monotonic()
        for step, batch in enumerate(batches(draws, steps, size)):
            rise = (step + 1) / max(1, stage["warmup"])
            rate = stage["learning_rate"] * min(1.0, rise, (1 - step / steps) / stage["decay"])
            loss = net.step(*batch, rate=rate)
            average += (loss - average) * (0.02 if step else 1.0)
            if step % 50 == 0 or step + 1 == steps:
                speed = (step + 1) * size / (time.monotonic() - began)
                report((done + step * size) / all_draws, f"{speed:,.0f}/s  loss {average:.3f}")
        done += stage["draws"]
    report(1.0, "last layers")
    _finish(net, corpus, rows, settings)
    with torch.no_grad():
        net.linear.bias += settings["prior"] * torch.from_numpy(corpus.prior).float()
    return net


def _finish(net: LanguageNet, corpus: Corpus, rows: Ragged, settings: Mapping[str, Any]) -> None:
    """Train the last layers, the hidden one from nothing, on mean vectors of newly drawn texts."""
    head = settings["head"]
    size: int = head["batch"]
    draws = Draws(corpus, rows, {**settings, **head}, settings["seed"] + len(settings["stages"]))
    drawn = [
        (net.pooled(ids, starts), torch.from_numpy(labels))
        for ids, starts, labels in batches(draws, head["draws"] // size, size)
    ]
    pooled, truth = torch.cat([x for x, _ in drawn]), torch.cat([y for _, y in drawn])
    hidden = nn.Linear(net.table.shape[1], head["hidden"])
    out = nn.Linear(head["hidden"], len(corpus.labels), bias=False)
    nn.init.zeros_(out.weight)
    net.hidden, net.out = hidden, out
    parts = (net.linear, hidden, out)
    adam = torch.optim.Adam([p for part in parts for p in part.parameters()])
    whole = len(pooled) // size
    for epoch in range(head["epochs"]):
        order = torch.randperm(len(pooled))
        for step in range(whole):
            left = 1 - (epoch * whole + step) / (head["epochs"] * whole)
            adam.param_groups[0]["lr"] = head["learning_rate"] * left
            mine = order[step * size : (step + 1) * size]
            adam.zero_grad()
            functional.cross_entropy(net.answer(pooled[mine]), truth[mine]).backward()
            adam.step()
