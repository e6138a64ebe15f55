"""Labels and decisions counted in windows: pure, no Faust and no Kafka."""
