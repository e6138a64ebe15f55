"""Scores text: language, sentiment, toxicity. Knows nothing of Kafka, Faust or Streamlit."""
