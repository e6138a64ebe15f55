"""Names of languages, in English, for the codes that models answer with (BCP-47)."""

from __future__ import annotations

from typing import Final

_NAMES: Final = (
    "af Afrikaans|am Amharic|an Aragonese|ar Arabic|arz Egyptian Arabic|as Assamese|ast Asturian|"
    "az Azerbaijani|azb South Azerbaijani|ba Bashkir|be Belarusian|bg Bulgarian|bh Bihari|bn Bengali|"
    "bo Tibetan|br Breton|bs Bosnian|ca Catalan|ce Chechen|ceb Cebuano|ckb Central Kurdish|cs Czech|"
    "cv Chuvash|cy Welsh|da Danish|de German|dv Dhivehi|el Greek|en English|eo Esperanto|es Spanish|"
    "et Estonian|eu Basque|fa Persian|fi Finnish|fil Filipino|fo Faroese|fr French|fy West Frisian|"
    "ga Irish|gd Scottish Gaelic|gl Galician|gn Guarani|gu Gujarati|ha Hausa|he Hebrew|hi Hindi|"
    "hr Croatian|ht Haitian Creole|hu Hungarian|hy Armenian|ia Interlingua|id Indonesian|ig Igbo|"
    "io Ido|is Icelandic|it Italian|ja Japanese|jv Javanese|ka Georgian|kk Kazakh|km Khmer|kn Kannada|"
    "ko Korean|ku Kurdish|ky Kyrgyz|la Latin|lb Luxembourgish|li Limburgish|lmo Lombard|ln Lingala|"
    "lo Lao|lt Lithuanian|lv Latvian|mg Malagasy|mi Maori|mk Macedonian|ml Malayalam|mn Mongolian|"
    "mr Marathi|ms Malay|mt Maltese|my Burmese|nah Nahuatl|nap Neapolitan|nds Low German|ne Nepali|"
    "new Newari|nl Dutch|nn Norwegian Nynorsk|no Norwegian|nb Norwegian Bokmål|oc Occitan|om Oromo|"
    "or Odia|os Ossetian|pa Punjabi|pl Polish|pms Piedmontese|pnb Western Punjabi|ps Pashto|"
    "pt Portuguese|qu Quechua|ro Romanian|ru Russian|rw Kinyarwanda|sa Sanskrit|sah Yakut|sc Sardinian|"
    "scn Sicilian|sco Scots|sd Sindhi|sh Serbo-Croatian|si Sinhala|sk Slovak|sl Slovenian|so Somali|"
    "sq Albanian|sr Serbian|su Sundanese|sv Swedish|sw Swahili|ta Tamil|te Telugu|tg Tajik|th Thai|"
    "tk Turkmen|tl Tagalog|tr Turkish|tt Tatar|ug Uyghur|uk Ukrainian|ur Urdu|uz Uzbek|vec Venetian|"
    "vi Vietnamese|vo Volapük|wa Walloon|war Waray|wuu Wu Chinese|xh Xhosa|yi Yiddish|yo Yoruba|"
    "yue Cantonese|zh Chinese|zh-yue Cantonese|zu Zulu|und undetermined"
)
LANGUAGES: Final = dict(entry.split(" ", 1) for entry in _NAMES.split("|"))

_CODES: Final = {name.lower(): code for code, name in reversed(LANGUAGES.items())}


def language_name(code: str) -> str:
    """The language's name; the code itself where we have none."""
    return LANGUAGES.get(code) or LANGUAGES.get(code.split("-", 1)[0]) or code or "unknown"


def language_code(name: str) -> str:
    """The code of a language that is named as `language_name` does, or by its code."""
    return name if name in LANGUAGES else _CODES.get(name.lower(), name)
