"""The policy and the models' thresholds that the pages show, kept up to date with their files."""

from __future__ import annotations

import streamlit as st

from dashboard import page
from models.manifest import Manifest, load_manifest
from stream.errors import TidegateError
from stream.policy import Policy, PolicyWatch


@st.cache_resource
def _watch() -> PolicyWatch:
    policy = page.settings().policy
    return PolicyWatch(policy.path, reload_s=policy.reload_s)


def policy_in_force() -> Policy | None:
    """The policy as the workers see it; None: it cannot be loaded, which `policy_error` explains."""
    try:
        watch = _watch()
    except TidegateError:
        return None
    watch.poll()
    return watch.policy


def policy_error() -> TidegateError | None:
    """What is wrong with the policy's files now; the policy before the mistake stays in force."""
    try:
        return _watch().error
    except TidegateError as error:
        return error


def forget_policy() -> None:
    """Read the policy anew at the next look: the file was just written."""
    _watch.clear()


@st.cache_resource
def _manifest() -> Manifest | None:
    try:
        return load_manifest(page.settings().models.manifest)
    except TidegateError:
        return None


def threshold_of(task: str, label: str, language: str = "") -> float | None:
    """The models' own threshold of a label for posts in a language; None: there is none."""
    manifest = _manifest()
    if manifest is None:
        return None
    for model in manifest.models.values():
        head = model.heads.get(task)
        if head is None or label not in head.thresholds:
            continue
        own = head.by_language.get(language, {}).get(label)
        return head.thresholds[label] if own is None else own.threshold
    return None
