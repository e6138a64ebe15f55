"""Scores batches in a process beside the worker's, so that neither waits for the other's interpreter.

The worker's process reads, commits and delivers; this one decodes posts, scores them and packs the
labels for the wire. They share nothing but socket pairs, one for each batch that may be computed at
a time. The process does as it is told and ends when the worker does, however the worker ends; if
it ends first, the worker ends with an error and nothing is lost: what was not delivered is not
committed.
"""
