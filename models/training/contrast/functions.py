"""What each function of a contrast template means for the six toxicity labels.

Invariant: `identity_attack` is 1 for an attack on a group by what its members are, and for nothing
else; an insult to one person, or to lawyers, is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: toxic, severe_toxic, obscene, threat, insult, identity_attack; -1: unknown.
Labels = tuple[int, int, int, int, int, int]

NOTHING: Final[Labels] = (0, 0, 0, 0, 0, 0)

#: Attacks on a group; what the minimal contrasts stand beside.
ATTACKS: Final[Mapping[str, Labels]] = {
    "dehumanise": (1, -1, 0, 0, 1, 1),
    "deny_rights": (1, -1, 0, 0, -1, 1),
    "wish_harm": (1, -1, 0, -1, -1, 1),
    "threaten_group": (1, -1, 0, 1, -1, 1),
    "stereotype": (1, 0, 0, 0, -1, 1),
    "exclude": (1, 0, 0, 0, -1, 1),
    "implicit": (1, 0, 0, 0, -1, 1),
    "rhetorical": (1, 0, 0, 0, -1, 1),
    "conspiracy": (1, 0, 0, 0, -1, 1),
    "member": (1, 0, 0, 0, 1, 1),
    "hate": (1, -1, 0, 0, -1, 1),
    "profane": (1, -1, 1, 0, -1, 1),
}

#: Attacks that make sense, and mean no harm, said of weeds and printers.
ATTACKS_ON_THINGS: Final = frozenset({"dehumanise", "hate", "wish_harm"})

#: An attack said of lawyers or referees: rude perhaps, but on no protected group.
ON_PEOPLE: Final[Labels] = (-1, 0, 0, -1, -1, 0)

#: Everything that stands alone, with its share among such rows.
SINGLES: Final[Mapping[str, tuple[Labels, float]]] = {
    "praise": (NOTHING, 2),
    "neutral": (NOTHING, 3),
    "support": (NOTHING, 2),
    "self": (NOTHING, 1),
    "question": (NOTHING, 1),
    "news": (NOTHING, 1),
    "anger_at_things": (NOTHING, 1),
    "homonym": (NOTHING, 1),
    "chat": (NOTHING, 3),
    "insult_person": ((1, 0, 0, 0, 1, 0), 1.5),
    "threaten_person": ((1, -1, 0, 1, -1, 0), 1),
    "profanity": ((1, 0, 1, 0, 0, 0), 0.7),
    "good_profanity": ((-1, 0, 1, 0, 0, 0), 0.5),
    "political_insult": ((1, 0, -1, 0, 1, 0), 1.5),
    "political_opinion": (NOTHING, 1.5),
}

#: Frames around a whole statement that take it back; the frame `endorse` keeps what it says.
DISARMING_FRAMES: Final = ("condemn", "deny", "report")


def disarmed(function: str) -> Labels:
    """Labels of what stands beside an attack: its swear words may remain, nothing else does."""
    return (-1, 0, -1, 0, 0, 0) if ATTACKS[function][2] else NOTHING
