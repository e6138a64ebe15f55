"""The read model's answers: pure functions over a connection, typed rows.

Invariant: nothing here writes, and no answer depends on who asks; what a person may see or do is
checked by `dashboard.people` where the page or the action begins.
"""
