"""Commands: what they read, what their end means, and that nothing of them is left."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psutil
import pytest

from stream.hooks.senders import now_utc, sender_of
from stream.hooks.verdict import Outcome, Verdict
from tests.processes import lives
from tests.stream.hooks.servers import alert, decision, target


async def ran(script: str, tmp_path: Path, more: str = "", text: str = "hello") -> Verdict:
    (tmp_path / "hook.py").write_text(script)
    found = target(
        f"{{type: command, command: ['{sys.executable}', hook.py], directory: {tmp_path}{more}}}"
    )
    sender = sender_of("it", found, allow_private=False)
    return await sender.send([decision(text=text), alert()], now_utc())


async def test_it_reads_a_line_for_each_record(tmp_path: Path) -> None:
    script = "import sys; open('out', 'w').write(sys.stdin.read())"
    assert await ran(script, tmp_path) == Verdict(Outcome.DELIVERED, 0)
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [line["type"] for line in lines] == ["post.flagged", "alert.firing"]
    assert lines[0]["data"]["post"]["text"] == "hello"


@pytest.mark.parametrize(
    ("script", "outcome", "error"),
    [
        ("raise SystemExit(3)", Outcome.FAILED, "exit code 3"),
        ("raise SystemExit(65)", Outcome.REFUSED, "exit code 65"),
        ("raise SystemExit('no\\n\\x1b[31mdisk')", Outcome.FAILED, "exit code 1: no �[31mdisk"),
        ("import os; os.abort()", Outcome.FAILED, "signal 6"),
    ],
)
async def test_how_it_ends(tmp_path: Path, script: str, outcome: Outcome, error: str) -> None:
    verdict = await ran(script, tmp_path)
    assert verdict.outcome is outcome
    assert verdict.error is not None
    assert verdict.error.endswith(f"ended with {error}")


async def test_one_that_does_not_read_is_no_failure(tmp_path: Path) -> None:
    verdict = await ran("pass", tmp_path, text="x" * 500_000)
    assert verdict.outcome is Outcome.DELIVERED


async def test_one_that_does_not_end_is_killed_with_all_it_started(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('pid', 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    verdict = await ran(script, tmp_path, ", timeout_s: 2")
    assert verdict.outcome is Outcome.FAILED
    assert verdict.error is not None
    assert verdict.error.endswith("did not end in 2 s")
    assert _is_gone(int((tmp_path / "pid").read_text()))


async def test_what_it_leaves_behind_is_ended(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('pid', 'w').write(str(child.pid))\n"
    )
    assert (await ran(script, tmp_path)).outcome is Outcome.DELIVERED
    assert _is_gone(int((tmp_path / "pid").read_text()))


def _is_gone(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return True
    psutil.wait_procs([process], timeout=5)
    return not lives(process)


async def test_it_sees_no_secret_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_KAFKA__PASSWORD", "hunter2")
    monkeypatch.setenv("CHOSEN", "yes")
    script = "import os, json; json.dump(dict(os.environ), open('env', 'w'))"
    await ran(script, tmp_path, ", environment: {OWN: x}, pass_environment: [CHOSEN]")
    seen = json.loads((tmp_path / "env").read_text())
    assert "hunter2" not in seen.values()
    assert (seen["OWN"], seen["CHOSEN"]) == ("x", "yes")
    assert "PATH" in seen


async def test_no_shell_is_between() -> None:
    found = target("{type: command, command: ['echo; touch pwned']}")
    verdict = await sender_of("it", found, allow_private=False).send([decision()], now_utc())
    assert verdict.outcome is Outcome.FAILED
    assert verdict.error == "`echo; touch pwned` cannot be started: no such file or directory"
