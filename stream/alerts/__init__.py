"""Rules over metrics that fire and resolve alerts: pure, no Faust and no Kafka."""
