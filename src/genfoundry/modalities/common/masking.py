"""Personal data and secrets in a text, replaced by placeholders.

Patterns find what has a fixed form, no names and no addresses. Where a form alone would catch too much, a second look
decides: a card must pass Luhn's sum and begin like an issuer's, a mail address must end in a known domain (else
``x@y.shape`` is one), an IP address must be a public one (FineWeb, Penedo et al. 2024, arXiv:2406.17557, masks those
alone); a version number of four parts still counts as one.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Literal, get_args

Kind = Literal["email", "phone", "ip", "card", "iban", "key"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_COMMON = (
    "com|org|net|edu|gov|mil|int|info|biz|name|pro|mobi|asia|jobs|"
    "coop|museum|aero|tel|travel|cat|post|app|dev|page|cloud|online|site|shop|"
    "store|tech|blog|news|email|academy|agency|digital|global|group|live|media|network|software|"
    "solutions|studio|systems|team|today|tools|wiki|work|works|world|xyz"
)
_EMAIL = re.compile(
    r"(?<![\w.%+-])[A-Za-z0-9_][\w.%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}"
    rf"(?:[A-Za-z]{{2}}|{_COMMON})(?![\w@])(?!\.\w)",
    re.IGNORECASE | re.ASCII,
)
# Each pattern below begins with the characters that it can begin with and looks back only then: three times as fast.
_PHONE = re.compile(
    # International with a plus, or ten digits in the three groups of North America.
    r"[+(\d](?<![\w.+/=-][+(\d])(?:(?<=\+)[1-9]\d{0,2}(?:[ -]?\(?\d{1,4}\)?){2,6}"
    r"|(?<=\()\d{3}\) ?\d{3}[.-]\d{4}|(?<=\d)\d{2}[.-]\d{3}[.-]\d{4})(?![\w.+/=-]*\d)"
)
_IPV4 = re.compile(r"\d(?<![\w.-]\d)\d{0,2}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
# The block that is given out for public use: else ``[::2]`` of Python is an address.
_IPV6 = re.compile(r"[23](?<![\w:.][23])[0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:.])")
_CARD = re.compile(r"[3-6](?<![\w.-][3-6])\d{3}(?:[ -]?\d){9,15}(?![\w-]|\.\d)")
_ISSUER = re.compile(
    r"(?:4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)\d+|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11,16}|"
    r"(?:6011|65|64[4-9])\d+|35(?:2[89]|[3-8])\d+|62\d+)\Z"
)
_IBAN = re.compile(r"[A-Z](?<!\w[A-Z])[A-Z]\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"  # Amazon
    r"|gh[oprsu]_[A-Za-z0-9]{36,255}|github_pat_\w{82}"
    r"|glpat-[\w-]{20,64}|xox[abeoprs]-[A-Za-z0-9-]{10,250}"  # GitLab, Slack
    r"|AIza[\w-]{35}(?![\w-])|[rs]k_live_[A-Za-z0-9]{20,250}"  # Google, Stripe
    r"|sk-(?:proj-|ant-|svcacct-)?[\w-]{32,250}|hf_[A-Za-z0-9]{34}(?![A-Za-z0-9])|npm_[A-Za-z0-9]{36}|pypi-[\w-]{80,250}"
    r"|eyJ[\w-]{10,4000}\.eyJ[\w-]{10,8000}\.[\w-]{10,1000}"  # JSON web tokens
    r")"
)
_SECRET = re.compile(
    r"(?i:(aws_?secret_?(?:access_?)?key[\"']?\s{0,4}[:=]\s{0,4}[\"']?))[A-Za-z0-9/+=]{40}(?![A-Za-z0-9/+=])"
)


def luhn(digits: str) -> bool:
    """Whether a card number's last digit is that of ISO/IEC 7812."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _is_card(found: str) -> bool:
    digits = re.sub(r"\D", "", found)
    return bool(_ISSUER.match(digits)) and luhn(digits)


def _is_iban(found: str) -> bool:
    """Whether the check digits are right (ISO 13616)."""
    number = found.replace(" ", "")
    return 15 <= len(number) <= 34 and int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1


def _is_public(found: str) -> bool:
    try:
        return ipaddress.ip_address(found).is_global
    except ValueError:
        return False


def _is_phone(found: str) -> bool:
    return 8 <= sum(character.isdigit() for character in found) <= 15


def _replace(text: str, pattern: re.Pattern[str], kind: str, holds: Callable[[str], bool]) -> tuple[str, int]:
    count, placeholder = 0, f"[{kind.upper()}]"

    def put(found: re.Match[str]) -> str:
        nonlocal count
        if not holds(found[0]):
            return found[0]
        count += 1
        return placeholder

    return pattern.sub(put, text), count


def _always(found: str) -> bool:
    return True


def _keys(text: str) -> tuple[str, int]:
    text, blocks = _private_blocks(text)
    text, tokens = _replace(text, _KEY, "key", _always)
    secrets = 0
    if "secret" in text.lower():
        text, secrets = _SECRET.subn(r"\1[KEY]", text)
    return text, blocks + tokens + secrets


def _private_blocks(text: str) -> tuple[str, int]:
    """Private keys in PEM armour; one whose end is missing loses all after its beginning."""
    parts, at, count = [], 0, 0
    while "-----BEGIN " in text and (begin := _BEGIN.search(text, at)):
        end = _END.search(text, begin.end())
        parts += [text[at : begin.start()], "[KEY]"]
        at, count = end.end() if end else len(text), count + 1
    return ("".join([*parts, text[at:]]), count) if count else (text, 0)


def _addresses(text: str) -> tuple[str, int]:
    text, fours = _replace(text, _IPV4, "ip", _is_public)
    text, sixes = _replace(text, _IPV6, "ip", _is_public) if ":" in text else (text, 0)
    return text, fours + sixes


_MASKS: dict[str, Callable[[str], tuple[str, int]]] = {
    "key": _keys,
    "email": lambda text: _replace(text, _EMAIL, "email", _always) if "@" in text else (text, 0),
    "iban": lambda text: _replace(text, _IBAN, "iban", _is_iban),
    "card": lambda text: _replace(text, _CARD, "card", _is_card),
    "ip": _addresses,
    "phone": lambda text: _replace(text, _PHONE, "phone", _is_phone),
}
"""In the order in which they are applied: what is longer and surer first."""


def columns(kinds: Sequence[Kind]) -> dict[str, str]:
    """The columns that count what was masked, and their type."""
    return {f"masked_{kind}": "int64" for kind in sorted(kinds)}


def masked(text: str, kinds: Sequence[Kind]) -> tuple[str, dict[str, int]]:
    """The text with placeholders, and how many of each kind by column name."""
    counts = {}
    for kind, mask in _MASKS.items():
        if kind in kinds:
            text, counts[f"masked_{kind}"] = mask(text)
    return text, counts
