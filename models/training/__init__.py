"""Everything that makes a model: the base, the fine-tuning, the export. Needs the `models` extra.

Nothing here is imported by the worker; torch and transformers stay on the machine that trains.
"""
