"""Contrast sentences: attacks on groups, and the sentences that look like them and are none.

Written for this project; never the sentences or templates of a published functional test.
"""

from models.training.contrast.generate import ContrastRow, generate, languages, load_languages

__all__ = ["ContrastRow", "generate", "languages", "load_languages"]
