"""Everything on one machine: broker, worker, dashboard and a feed, started and ended together."""
