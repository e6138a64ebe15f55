"""Kafka's protocol: the batched transport, the embedded broker, clients built from the settings."""
