"""The functional set: pairs of an attack on a group and a text that only looks like one.

For measuring, never for training: no sentence of it can come out of `models.training.contrast`
(a test holds them apart). `python -m models.functional` measures the model in use.
"""

from models.functional.evaluate import FunctionalFigures, SetFigures, evaluate_functional
from models.functional.pairs import FunctionalPair, functional_pairs

__all__ = [
    "FunctionalFigures",
    "FunctionalPair",
    "SetFigures",
    "evaluate_functional",
    "functional_pairs",
]
