"""Everything that moves: Kafka, the Faust agents, the sources, the command line."""
