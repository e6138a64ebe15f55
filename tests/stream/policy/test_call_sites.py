"""Calls run without arguments: what a condition says stays, and nothing is left in memory."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from stream.policy.call_sites import MOST_SITES
from stream.policy.expressions import (
    BOOL,
    INT,
    KEY,
    STRING,
    STRINGS,
    Environment,
    Expression,
    Failure,
    Function,
)


def environment(asked: list[tuple[str, ...]]) -> Environment:
    def told(*given: str) -> bool:
        asked.append(given)
        return True

    def counted(*given: str) -> int:
        asked.append(given)
        return len(given[-1])

    return Environment(
        {"author": KEY, "n": INT, "text": STRING},
        [Function("words", (STRING,), BOOL, told), Function("count", (KEY, STRING), INT, counted)],
    )


def compiled(env: Environment, source: str) -> Expression:
    expression = env.compile(source)
    assert isinstance(expression, Expression), expression
    return expression


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ('words("x")', [("x",)]),
        ('words ( "x" ) && n > 1', [("x",)]),
        ("words('it\\'s (x')", [("it's (x",)]),
        ('words(r"a)\\b(")', [("a)\\b(",)]),
        ('words("""a)"b""")', [('a)"b',)]),
        ("words(r'''a)'b''')", [("a)'b",)]),
        ('words("ü)") && words("ü(")', [("ü)",), ("ü(",)]),
        ('count(author, "5m") > 1', [("author", "5m")]),
        ('[1, 2].exists(i, i > 1 && count(author, "10m") > i)', [("author", "10m")]),
        ('words( // why )\n "x" // not (y\n)', [("x",)]),
        ('text == "words(" || words("x")', [("x",)]),
        ("words(text)", [("hello",)]),
    ],
)  # fmt: skip
def test_a_function_is_given_what_is_written(source: str, asked: list[tuple[str, ...]]) -> None:
    found: list[tuple[str, ...]] = []
    env = environment(found)
    assert compiled(env, source).holds(env.facts({"author": "author", "n": 2, "text": "hello"}))
    assert found == asked


def test_what_is_not_reached_is_not_called_and_what_is_too_much_stays_as_it_is() -> None:
    found: list[tuple[str, ...]] = []
    env = environment(found)
    facts = env.facts({"author": "author", "n": 2, "text": "hello"})
    assert compiled(env, 'n > 1 || words("x")').holds(facts) is True
    assert found == []
    for number in range(MOST_SITES + 3):
        assert compiled(env, f'words("w{number}")').holds(facts) is True
    assert found == [(f"w{number}",) for number in range(MOST_SITES + 3)]


def test_a_list_is_asked_for_with_each_post() -> None:
    answers = iter([["a"], [], ["a", "b"]])
    env = Environment({"n": INT}, [Function("terms", (STRING,), STRINGS, lambda _: next(answers))])
    expression = compiled(env, '(terms("x")).size() + terms ( "x" ).size() > 1')
    assert [expression.holds(env.facts({"n": 1})) for _ in range(3)] == [True, False, True]


def test_a_list_is_asked_for_once_and_only_by_conditions_that_name_it() -> None:
    asked: list[str] = []

    def terms(name: str) -> list[str]:
        asked.append(name)
        return [name][: 1 // len(name)]  # of no name: an error

    env = Environment({"n": INT, "text": STRING}, [Function("terms", (STRING,), STRINGS, terms)])
    plain, one, again, broken = (
        compiled(env, source)
        for source in (
            'n == 1 && text == "_LIST_0"',
            'terms("x") == ["x"] && n == 1',
            'text != "" && terms("x").exists(t, t == "x")',
            'n == 1 || terms("") == ["x"]',
        )
    )
    facts = env.facts({"n": 1, "text": "_LIST_0"})
    assert plain.holds(facts) is True
    assert asked == []
    assert (one.holds(facts), again.holds(facts)) == (True, True)
    assert asked == ["x"]
    problem = Failure("integer division or modulo by zero")
    assert (broken.holds(facts), broken.value(facts)) == (problem, problem)
    assert plain.holds(facts) is True


def test_the_names_of_calls_are_no_names_of_conditions() -> None:
    assert isinstance(environment([]).compile("_BOOL_0()"), list)
    assert isinstance(environment([]).compile("_LIST_0.size() > 0"), list)


def test_evaluating_leaves_nothing_behind() -> None:
    quiet = Environment(
        {"author": KEY},
        [
            Function("words", (STRING,), BOOL, lambda _: True),
            Function("count", (KEY, STRING), INT, lambda *_: 3),
            Function("terms", (STRING,), STRINGS, lambda name: [name, "and more"]),
        ],
    )
    expression = compiled(
        quiet, 'words("x") && count(author, "5m") > 1 && terms("y").exists(t, t == "y")'
    )

    def run(times: int) -> None:
        for _ in range(times):
            assert expression.holds(quiet.facts({"author": "author"})) is True

    run(200)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    run(2000)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # As arguments they were some 300 bytes each time.
    assert kept < 20 * 2000
