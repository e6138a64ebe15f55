"""The contrast sentences: reproducible, distinct, rightly labelled, well formed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from models.errors import ModelBuildError
from models.templates import read_language
from models.training.contrast import ContrastRow, generate, languages, load_languages
from models.training.contrast.functions import ATTACKS, DISARMING_FRAMES, SINGLES
from models.training.contrast.perturb import perturb

ROWS_PER_LANGUAGE = 1_500


@pytest.fixture(scope="module")
def rows() -> list[ContrastRow]:
    return generate(7, ROWS_PER_LANGUAGE)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    first = generate(1, 200, ["en"])
    assert first == generate(1, 200, ["en"])
    assert {row.text for row in first} != {row.text for row in generate(2, 200, ["en"])}


def test_a_language_does_not_depend_on_which_others_are_drawn() -> None:
    both = [row for row in generate(3, 100, ["de", "en"]) if row.lang == "en"]
    assert both == generate(3, 100, ["en"])


def test_no_text_comes_twice_and_every_language_has_its_rows(rows: list[ContrastRow]) -> None:
    by_file: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_file[row.pair_id.rsplit("-", 1)[0]].append(row.text)
    assert sorted(by_file) == sorted(languages())
    for texts in by_file.values():
        assert ROWS_PER_LANGUAGE <= len(texts) <= ROWS_PER_LANGUAGE + 3
        assert len(set(texts)) == len(texts)


def test_english_has_tens_of_thousands_of_sentences() -> None:
    assert len({row.text for row in generate(5, 20_000, ["en"])}) >= 20_000


def test_no_slot_and_no_choice_is_left_open(rows: list[ContrastRow]) -> None:
    unfilled = [row.text for row in rows if re.search(r"[{}|\[\]]", row.text)]
    assert unfilled == []


def test_identity_attack_is_for_attacks_on_groups_alone(rows: list[ContrastRow]) -> None:
    for row in rows:
        assert (row.target[5] == 1) == (row.function in ATTACKS)
        assert all(value in (-1, 0, 1) for value in row.target)
        assert row.target[5] in (0, 1), "identity_attack is what these rows are for"


def test_every_attack_has_its_contrast_beside_it(rows: list[ContrastRow]) -> None:
    """Some contrasts are lost because the very text was drawn before; nearly all are there."""
    sets: dict[str, list[ContrastRow]] = defaultdict(list)
    for row in rows:
        sets[row.pair_id].append(row)
    attacked = [members for members in sets.values() if members[0].function in ATTACKS]
    alone = sum(all(row.target[5] == 1 for row in members) for members in attacked)
    assert alone < 0.05 * len(attacked)


def test_functions_of_every_language_are_drawn(rows: list[ContrastRow]) -> None:
    for code, language in load_languages().items():
        drawn = Counter(row.function for row in rows if row.pair_id.startswith(f"{code}-0"))
        for function in (*ATTACKS, *SINGLES, *DISARMING_FRAMES):
            assert function in language.lines, (code, function)
            if function not in {"profanity", "good_profanity", "homonym", "anger_at_things"}:
                assert drawn[function], (code, function)


def test_a_seventh_is_misspelt_and_spelling_says_nothing_about_the_labels() -> None:
    import random

    rng = random.Random(4)
    text = "The neighbours are baking bread on Saturday."
    spelt = {perturb(text, rng, cased=True) for _ in range(300)}
    assert len(spelt) > 80
    assert all(perturb("水", rng, cased=False) != "" for _ in range(20))


def test_a_group_without_a_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "xx.toml"
    path.write_text(
        'language = "xx"\nforms = ["pl", "sg"]\n[groups]\na = ["only one"]\n[templates]\n', "utf-8"
    )
    with pytest.raises(ModelBuildError, match="`only one` has 1 forms, the file names 2"):
        read_language(path)


def test_a_slot_that_nobody_fills_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "xx.toml"
    path.write_text(
        'language = "xx"\nforms = ["pl"]\n[groups]\na = "A"\n[templates]\nhate = "{pl} {nope}"\n',
        "utf-8",
    )
    with pytest.raises(ModelBuildError, match="slot `nope` of"):
        read_language(path)


def test_some_sentences_stand_beside_small_talk_and_keep_their_labels() -> None:
    plain = re.compile(r"[.!?] \S")
    attacks = ("hate", "exclude", "wish_harm")
    rows = [row for row in generate(11, 2_000, ["nl"]) if row.function in attacks]
    beside = [row for row in rows if plain.search(row.text)]
    assert 0.04 < len(beside) / len(rows) < 0.4
    assert {row.target[5] for row in beside} == {1}
