"""Which texts mention a group of people, and how a score treats those that do.

Neutral terms only: whoever writes about a group in plain words must not be taken for an abuser.
The figures are those of Borkan et al. 2019 (subgroup, BPSN and BNSP AUC).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.metrics import roc_auc

#: Rows of a group, of each kind, below which nothing is said of it.
MIN_ROWS: Final = 10

#: Group to its neutral terms in English, German, French, Spanish, Portuguese, Italian and some more.
TERMS: Final[Mapping[str, Sequence[str]]] = {
    "women": ("woman", "women", "girl", "girls", "female", "females", "frau", "frauen", "mädchen",
              "femme", "femmes", "fille", "filles", "mujer", "mujeres", "chica", "mulher", "mulheres",
              "donna", "donne", "ragazza", "kvinna", "kvinnor", "vrouw", "vrouwen", "女性", "女人",
              "женщина", "женщины", "امرأة", "النساء"),
    "men": ("man", "men", "boy", "boys", "male", "males", "mann", "männer", "homme", "hommes",
            "hombre", "hombres", "homem", "homens", "uomo", "uomini", "男性", "男人", "мужчина",
            "мужчины"),
    "muslims": ("muslim", "muslims", "islam", "islamic", "moslem", "muslime", "muslimin", "musulman",
                "musulmane", "musulmans", "musulmán", "musulmanes", "muçulmano", "muçulmanos",
                "musulmani", "穆斯林", "мусульмане", "مسلم", "المسلمين"),
    "jews": ("jew", "jews", "jewish", "judaism", "jude", "juden", "jüdisch", "juif", "juifs", "juive",
             "judío", "judíos", "judeu", "judeus", "ebreo", "ebrei", "犹太人", "еврей", "евреи",
             "يهود", "اليهود"),
    "christians": ("christian", "christians", "christianity", "catholic", "catholics", "christen",
                   "katholiken", "chrétien", "chrétiens", "cristiano", "cristianos", "cristãos",
                   "cristiani", "基督徒"),
    "black people": ("black people", "black person", "black man", "black men", "black woman",
                     "black women", "african american", "african americans", "africans",
                     "schwarze menschen", "personne noire", "personnes noires", "persona negra",
                     "personas negras", "pessoa negra", "pessoas negras", "黑人"),
    "white people": ("white people", "white person", "white man", "white men", "white woman",
                     "white women", "weiße menschen", "personnes blanches", "personas blancas",
                     "pessoas brancas", "白人"),
    "asians": ("asian", "asians", "chinese", "japanese", "korean", "koreans", "asiaten", "asiatique",
               "asiatiques", "asiáticos", "asiatici", "亚洲人", "中国人"),
    "immigrants": ("immigrant", "immigrants", "migrant", "migrants", "refugee", "refugees",
                   "flüchtling", "flüchtlinge", "migranten", "réfugié", "réfugiés", "immigrés",
                   "inmigrante", "inmigrantes", "refugiados", "imigrante", "imigrantes", "migranti",
                   "immigrati", "rifugiati", "难民", "移民", "беженцы", "мигранты", "لاجئين"),
    "lgbt": ("gay", "gays", "lesbian", "lesbians", "homosexual", "homosexuals", "bisexual", "queer",
             "lgbt", "lgbtq", "schwul", "lesbisch", "homosexuelle", "homosexuell", "lesbienne",
             "lesbiana", "lésbica", "同性恋"),
    "trans people": ("transgender", "trans person", "trans people", "trans woman", "trans women",
                     "trans man", "transsexual", "transgenre", "transgénero", "transgênero", "跨性别"),
    "disabled people": ("disabled", "disability", "blind people", "deaf people", "autistic", "autism",
                        "wheelchair", "behinderte menschen", "behinderung", "handicapé", "handicapés",
                        "discapacidad", "deficiência", "disabili", "残疾人"),
    "old people": ("elderly", "old people", "older people", "senior citizens", "senioren",
                   "personnes âgées", "personas mayores", "idosos", "anziani", "老年人"),
}  # fmt: skip


class GroupFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How one label treats texts that mention a group; None where a kind of rows is too rare.

    `false_positive_rate` is that of the harmless rows at the label's threshold. `subgroup_auc`:
    within the group. `bpsn_auc`: harmful rows of others against harmless rows of the group (low:
    the group is taken for abuse). `bnsp_auc`: harmless rows of others against harmful ones of it.
    """

    rows: int
    positives: int
    false_positive_rate: float | None
    subgroup_auc: float | None
    bpsn_auc: float | None
    bnsp_auc: float | None


class IdentityFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One label's groups beside all texts that mention none."""

    label: str
    background_rows: int
    background_false_positive_rate: float | None
    groups: dict[str, GroupFigures]


def mentions(texts: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Which of `texts` mention each group."""
    lowered = [text.lower() for text in texts]
    return {
        group: np.array([pattern.search(text) is not None for text in lowered], dtype=bool)
        for group, pattern in _PATTERNS.items()
    }


def identity_figures(
    label: str,
    texts: Sequence[str],
    truth: NDArray[np.integer[Any]],
    score: NDArray[np.floating[Any]],
    threshold: float,
) -> IdentityFigures:
    """Figures of every group with enough rows; `truth` is 1 for yes, 0 for no."""
    there = mentions(texts)
    anyone = np.any(list(there.values()), axis=0) if len(texts) else np.zeros(0, dtype=bool)
    said = score >= np.float32(threshold)
    yes = truth == 1
    return IdentityFigures(
        label=label,
        background_rows=int((~anyone).sum()),
        background_false_positive_rate=_share(said, ~anyone & ~yes),
        groups={
            group: GroupFigures(
                rows=int(here.sum()),
                positives=int((here & yes).sum()),
                false_positive_rate=_share(said, here & ~yes),
                subgroup_auc=_auc(truth, score, here & yes, here & ~yes),
                bpsn_auc=_auc(truth, score, ~here & yes, here & ~yes),
                bnsp_auc=_auc(truth, score, here & yes, ~here & ~yes),
            )
            for group, here in there.items()
            if here.sum() >= MIN_ROWS
        },
    )


def _share(said: NDArray[np.bool_], rows: NDArray[np.bool_]) -> float | None:
    return float(said[rows].mean()) if rows.sum() >= MIN_ROWS else None


def _auc(
    truth: NDArray[np.integer[Any]],
    score: NDArray[np.floating[Any]],
    positives: NDArray[np.bool_],
    negatives: NDArray[np.bool_],
) -> float | None:
    if min(positives.sum(), negatives.sum()) < MIN_ROWS:
        return None
    rows = positives | negatives
    return roc_auc(truth[rows], np.asarray(score[rows], np.float64))


def _pattern(terms: Sequence[str]) -> re.Pattern[str]:
    # Han has no spaces between words; everything else must stand as a word.
    parts = [
        term if "\u3400" <= term[0] <= "\u9fff" else rf"\b{re.escape(term)}\b" for term in terms
    ]
    return re.compile("|".join(parts))


_PATTERNS: Final = {group: _pattern(terms) for group, terms in TERMS.items()}
