"""Why a rule acts: the codes of atproto's report reasons, in kebab case.

`harassment-targeted` is `tools.ozone.report.defs#reasonHarassmentTargeted`: a code turns into its
token by rule, with the exceptions below, and so every decision can be sent to an Ozone service or
compared with reports that came from one. The list is that of the lexicon in August 2026.
"""

from __future__ import annotations

from typing import Final

LEXICON: Final = "tools.ozone.report.defs"

#: Code to what it means, in the lexicon's order.
REASONS: Final[dict[str, str]] = {
    "appeal": "a person contests an earlier decision",
    "other": "none of the others fits",
    "violence-animal": "cruelty to animals",
    "violence-threats": "a threat, or a call for violence",
    "violence-graphic-content": "graphic depiction of violence",
    "violence-glorification": "violence is praised",
    "violence-extremist-content": "extremist or terrorist content",
    "violence-trafficking": "trade in human beings",
    "violence-other": "other violent content",
    "sexual-abuse-content": "sexual abuse of adults",
    "sexual-ncii": "intimate pictures shared without consent",
    "sexual-deepfake": "sexual content that is made up of a real person",
    "sexual-animal": "sexual abuse of animals",
    "sexual-unlabeled": "adult content without a label",
    "sexual-other": "other sexual content",
    "child-safety-csam": "sexual abuse of children",
    "child-safety-groom": "grooming, predatory behaviour",
    "child-safety-privacy": "a minor's privacy is hurt",
    "child-safety-harassment": "a minor is harassed or bullied",
    "child-safety-other": "other danger to minors",
    "harassment-troll": "trolling",
    "harassment-targeted": "somebody is singled out for abuse",
    "harassment-hate-speech": "hatred of people for what they are",
    "harassment-doxxing": "somebody's private data is published",
    "harassment-other": "other harassing or hateful content",
    "misleading-bot": "a fake account or a bot",
    "misleading-impersonation": "somebody pretends to be somebody else",
    "misleading-spam": "spam: floods, unwanted promotion",
    "misleading-scam": "an attempt to cheat people",
    "misleading-elections": "false information about elections",
    "misleading-other": "other misleading content",
    "rule-site-security": "an attack on the site or its users' accounts",
    "rule-prohibited-sales": "forbidden goods or services are offered",
    "rule-ban-evasion": "a banned user is back",
    "rule-other": "another rule of the platform is broken",
    "self-harm-content": "self-harm is shown or encouraged",
    "self-harm-ed": "eating disorders are encouraged",
    "self-harm-stunts": "dangerous challenges",
    "self-harm-substances": "dangerous substances, abuse of drugs",
    "self-harm-other": "other content that endangers the reader",
}
_CAPITALS: Final = {"ncii": "NCII", "csam": "CSAM", "ed": "ED"}


def ozone_reason(code: str) -> str:
    """The lexicon's token for a code: `tools.ozone.report.defs#reason...`."""
    words = code.split("-")
    return f"{LEXICON}#reason{''.join(_CAPITALS.get(word, word.capitalize()) for word in words)}"


def code_of(token: str) -> str | None:
    """The code of a token of the lexicon, as reports bring them; None for one that is not known."""
    return _CODES.get(token)


_CODES: Final = {ozone_reason(code): code for code in REASONS}
