"""Rules that turn labels into decisions: pure, without Kafka, Faust or Streamlit.

`load_policy(path).evaluate(Subject.of_label(label), history)` gives a `Verdict`;
`decision_of(label, verdict, policy.version, ...)` the record of it.
"""

from stream.errors import PolicyError
from stream.policy.engine import Policy, Rule
from stream.policy.history import NO_HISTORY, History, NoHistory, Window
from stream.policy.load import load_policy, policy_path
from stream.policy.subject import Subject
from stream.policy.verdict import FailedRule, Verdict, decision_id, decision_of
from stream.policy.watch import PolicyWatch

__all__ = [
    "NO_HISTORY",
    "FailedRule",
    "History",
    "NoHistory",
    "Policy",
    "PolicyError",
    "PolicyWatch",
    "Rule",
    "Subject",
    "Verdict",
    "Window",
    "decision_id",
    "decision_of",
    "load_policy",
    "policy_path",
]
