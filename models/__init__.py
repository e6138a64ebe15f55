"""Scores text: language, sentiment, toxicity. Knows nothing of Kafka, Faust or Streamlit."""

import os

# From 1.29 on onnxruntime reports to its maker, also on Linux, unless this is set before it is
# imported (its Privacy.md). Nothing that we load may tell anybody what runs on this machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
