"""Decisions and alerts, handed to other people's systems.

What is sent, to whom, when and what an answer means is pure (`events`, `filters`, `formats`,
`outbox`, ...); `transport` opens connections, `deliverer` and `stream.agents.hooks` are the loops.
"""
