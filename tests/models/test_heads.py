"""Reading logits: slices, probabilities, labels, thresholds, unsupported languages."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from models.curves import Curve
from models.heads import NO_LABEL, HeadReader, HeadSet, sigmoid, softmax
from models.manifest import Head, LanguageThreshold
from models.scores import Prepared, TextScores

SENTIMENT = Head(activation="softmax", slice=(0, 3), labels=["negative", "neutral", "positive"])
TOXICITY = Head(
    activation="sigmoid",
    slice=(3, 6),
    labels=["toxic", "threat", "insult"],
    thresholds={"toxic": 0.5, "threat": 0.2, "insult": 0.7},
    languages=["en"],
)
LANGUAGE = Head(activation="softmax", slice=(6, 10), labels=["de", "en", "fr", "it"], top=2)
LOGITS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 12), st.just(10)),
    elements=st.floats(-200, 200, width=32),
)


def read(logits: NDArray[np.float32]) -> list[TextScores]:
    heads = HeadSet(
        {
            "sentiment": HeadReader(SENTIMENT),
            "toxicity": HeadReader(TOXICITY),
            "language": HeadReader(LANGUAGE),
        }
    )
    count = len(logits)
    return heads.finish(Prepared(count, [], [False] * count, [False] * count), logits)


def logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def row(
    toxicity: tuple[float, float, float] = (0.01, 0.01, 0.01), language: int = 1
) -> NDArray[np.float32]:
    logits = np.zeros((1, 10), np.float32)
    logits[0, 3:6] = [logit(p) for p in toxicity]
    logits[0, 6 + language] = 5
    return logits


@given(LOGITS)
def test_probabilities_are_probabilities(logits: NDArray[np.float32]) -> None:
    for answer in read(logits):
        for task in answer.tasks.values():
            assert all(0.0 <= score <= 1.0 for score in task.scores.values())
            assert task.score == max(task.scores.values())
        assert sum(answer.tasks["sentiment"].scores.values()) == pytest.approx(1, abs=1e-5)


@given(LOGITS)
def test_a_rows_answer_does_not_depend_on_the_other_rows(logits: NDArray[np.float32]) -> None:
    together = read(logits)
    assert together == [read(logits[i : i + 1])[0] for i in range(len(logits))]
    assert read(logits[::-1]) == together[::-1]


@given(LOGITS, st.integers(1, 7))
def test_an_offset_moves_the_slice(logits: NDArray[np.float32], offset: int) -> None:
    shifted = np.concatenate([np.full((len(logits), offset), 9, np.float32), logits], axis=1)
    moved = HeadReader(TOXICITY, offset).probabilities(shifted)
    assert np.array_equal(moved, HeadReader(TOXICITY).probabilities(logits))


def test_softmax_and_sigmoid_agree_with_their_definitions() -> None:
    logits = np.array([[0.5, -2, 3]], np.float32)
    exps = np.exp(logits.astype(np.float64))
    assert softmax(logits) == pytest.approx(exps / exps.sum(), abs=1e-6)
    assert sigmoid(logits) == pytest.approx(exps / (1 + exps), abs=1e-6)
    extreme = np.array([[-1000, 0, 1000]], np.float32)
    assert softmax(extreme).tolist() == [[0, 0, 1]]
    assert sigmoid(extreme).tolist() == [[0, 0.5, 1]]


@pytest.mark.parametrize(
    ("toxicity", "label", "score"),
    [
        ((0.49, 0.19, 0.69), NO_LABEL, 0.69),
        ((0.51, 0.19, 0.69), "toxic", 0.69),
        ((0.6, 0.9, 0.1), "threat", 0.9),
        ((0.4, 0.21, 0.3), "threat", 0.4),
        ((0.6, 0.1, 0.75), "insult", 0.75),
    ],
)
def test_toxicity_is_the_highest_label_that_reaches_its_own_threshold(
    toxicity: tuple[float, float, float], label: str, score: float
) -> None:
    answer = read(row(toxicity))[0].tasks["toxicity"]
    assert answer.label == label
    assert answer.score == pytest.approx(score, abs=1e-5)


def test_a_score_at_its_threshold_reaches_it() -> None:
    zero = np.zeros((1, 10), np.float32)
    assert read(zero)[0].tasks["toxicity"].label == "toxic"
    just_over = msgspec.structs.replace(
        TOXICITY, thresholds={**TOXICITY.thresholds, "toxic": 0.501, "threat": 0.501}
    )
    reader = HeadReader(just_over)
    assert reader.read(reader.probabilities(zero), [False])[0].label == NO_LABEL


def test_language_carries_its_best_scores_only_best_first() -> None:
    logits = np.zeros((1, 10), np.float32)
    logits[0, 6:10] = [1, 3, 2, -1]
    answer = read(logits)[0].tasks["language"]
    assert list(answer.scores) == ["en", "fr"]
    assert answer.label == "en"


def test_a_task_says_when_it_was_not_measured_on_the_language() -> None:
    english, french = read(row(language=1))[0], read(row(language=2))[0]
    assert not english.tasks["toxicity"].unsupported
    assert french.tasks["toxicity"].unsupported
    # Nothing is known about where these were measured, so nothing is claimed.
    assert not french.tasks["sentiment"].unsupported
    assert not french.tasks["language"].unsupported


def test_where_the_language_is_a_guess_nothing_is_said_about_it() -> None:
    guess = row(language=2)
    guess[0, 6:10] = [0.2, 0.1, 0.3, 0.0]
    answer = read(guess)[0]
    assert answer.tasks["language"].label == "fr"
    assert answer.tasks["language"].score < 0.5
    assert not answer.tasks["toxicity"].unsupported


def test_no_texts_no_answers() -> None:
    assert read(np.zeros((0, 10), np.float32)) == []


def test_a_language_has_its_own_thresholds_where_it_is_sure() -> None:
    own = LanguageThreshold(threshold=0.9, precision=1.0, recall=1.0, rows=300, positives=100)
    toxicity = msgspec.structs.replace(TOXICITY, by_language={"de": {"toxic": own}})
    heads = HeadSet({"toxicity": HeadReader(toxicity), "language": HeadReader(LANGUAGE)})

    def label(logits: NDArray[np.float32]) -> str:
        prepared = Prepared(1, [], [False], [False])
        return heads.finish(prepared, logits)[0].tasks["toxicity"].label

    assert label(row(toxicity=(0.7, 0.1, 0.1), language=0)) == NO_LABEL
    assert label(row(toxicity=(0.7, 0.3, 0.1), language=0)) == "threat"
    assert label(row(toxicity=(0.7, 0.1, 0.1), language=1)) == "toxic"
    unsure = row(toxicity=(0.7, 0.1, 0.1), language=0)
    unsure[0, 6:] = 0
    assert label(unsure) == "toxic"


def test_und_is_said_below_its_probability_and_is_never_unsupported() -> None:
    language = Head(
        activation="softmax", slice=(6, 10), labels=["de", "en", "fr", "und"], undetermined=0.4
    )
    heads = HeadSet({"toxicity": HeadReader(TOXICITY), "language": HeadReader(language)})

    def tasks(logits: NDArray[np.float32]) -> tuple[str, bool]:
        answer = heads.finish(Prepared(1, [], [False], [False]), logits)[0].tasks
        return answer["language"].label, answer["toxicity"].unsupported

    assert tasks(row(language=0)) == ("de", True)
    assert tasks(row(language=1)) == ("en", False)
    assert tasks(row(language=3)) == ("und", False)
    doubtful = row()
    doubtful[0, 6:] = [0.2, 0.1, 0.0, 0.0]
    assert tasks(doubtful) == ("und", False)


def test_calibration_moves_the_scores() -> None:
    curve = Curve(method="linear", raw=[-1.0, 1.0], calibrated=[-3.0, -1.0])
    toxicity = msgspec.structs.replace(TOXICITY, curves={"threat": curve})
    logits = row(toxicity=(0.5, 0.5, 0.5))
    probabilities = HeadReader(toxicity).probabilities(logits)[0]
    assert probabilities.tolist() == pytest.approx([0.5, 1 / (1 + np.exp(2)), 0.5], abs=1e-6)
    warm = msgspec.structs.replace(SENTIMENT, temperature=2.0)
    logits[0, :3] = [0, 2, 4]
    assert HeadReader(warm).probabilities(logits)[0].tolist() == pytest.approx(
        HeadReader(SENTIMENT).probabilities(logits / np.float32(2))[0].tolist()
    )
    assert logits[0, 4] == 0.0, "the logits stay as they are"
