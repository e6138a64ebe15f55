"""Benchmarks of the stream: every contestant a process of its own, measured in turns."""
