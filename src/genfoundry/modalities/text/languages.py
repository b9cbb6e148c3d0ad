"""The natural language of a text, by py3langid: naive Bayes over byte n-grams (Lui and Baldwin 2012, ACL demo)."""

from functools import cache
from typing import Any

LOOKED_AT = 4096
"""Characters from the beginning of a text: more of them change little but the time."""

UNKNOWN = "und"
"""What a text without any trait of a language is in (ISO 639-2, undetermined)."""

_CODES = (
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa "
    "fi fo fr fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka "
    "kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om "
    "or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk "
    "ur uz uzs vec vi vo wa wuu xh yo yue zh zu zxx"
)
LANGUAGES = frozenset(_CODES.split())
"""Codes of the languages that can be identified (ISO 639-1, a few ISO 639-3); a test holds them to the model's."""


@cache
def classifier() -> Any:
    """The model; loading it takes most of a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def detect(text: str) -> tuple[str, float]:
    """(likeliest language, its probability to two decimals, so that no processor's last bit shows)."""
    language, probability = classifier().classify(text[:LOOKED_AT])
    # Without a trait all languages are as likely.
    if probability < 2 / len(LANGUAGES):
        return UNKNOWN, 0.0
    return str(language), round(float(probability), 2)


def checked(languages: tuple[str, ...]) -> tuple[str, ...]:
    """The languages unchanged; ValueError names those that can't be identified."""
    if wrong := [language for language in languages if language not in LANGUAGES | {UNKNOWN}]:
        raise ValueError(f"languages {wrong} can't be told apart; codes such as en, de, zh are needed (ISO 639-1)")
    return languages
