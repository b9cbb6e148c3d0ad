"""Text: repair, language, quality rules and masking, each by a value known on paper."""

import re
from pathlib import Path

import pandas as pd
import pytest
from dataline import Line, write_jsonl

from genfoundry.core.errors import ConfigError
from genfoundry.modalities import text
from genfoundry.modalities.common import masking
from genfoundry.modalities.text import languages, quality
from genfoundry.modalities.text.quality import Quality


def clean(texts: list[str], **config: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    ids = [str(number) for number in range(len(texts))]
    table = pd.DataFrame({"id": ids, "label": None, "split": None, "sha256": "", "content": texts})
    return text.clean(table, text.Preprocess(**config))


# ------------------------------------------------------------------------------------------------ repair
def test_repair_undoes_a_wrong_encoding_and_nothing_else() -> None:
    wrong = "Das schöne Café".encode().decode("latin-1")
    meant = "“curly” ﬁne &lt;tag&gt; Ｆｕｌｌ é"

    kept, _ = clean([f"plain\n{wrong}\nend", meant], repair=True)
    left, _ = clean([wrong, meant])

    assert list(kept["content"]) == ["plain\nDas schöne Café\nend", meant]
    assert list(left["content"]) == [wrong, meant]


# ------------------------------------------------------------------------------------------------ language
ENGLISH = "The quick brown fox jumps over the lazy dog, and nobody in the village was surprised by that."
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund, und niemand im Dorf war davon überrascht."


def test_only_the_languages_that_are_named_are_kept() -> None:
    kept, dropped = clean([ENGLISH, GERMAN], languages=("de",))

    assert kept[["id", "language"]].to_numpy().tolist() == [["1", "de"]]
    assert dropped.to_numpy().tolist() == [["0", "other_language", "en, needs de"]]


def test_languages_are_told_only_when_asked_for() -> None:
    assert list(clean([ENGLISH, GERMAN], detect_language=True)[0]["language"]) == ["en", "de"]
    assert "language" not in clean([ENGLISH])[0]


def test_an_unsure_language_is_dropped_with_its_probability() -> None:
    _, dropped = clean(
        ["Compute the mean of a. >>> np.mean(a)", ENGLISH, "12 34"], languages=("en", "de", "und"), min_language=0.9
    )

    assert [*dropped["id"]] == ["0", "2"] and set(dropped["reason"]) == {"unsure_language"}
    assert dropped["detail"].iloc[1] == "und at 0.00, at least 0.9"


def test_the_languages_are_those_of_the_model() -> None:
    assert set(languages.classifier().labels) == languages.LANGUAGES


def test_a_language_that_nobody_can_tell_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'english'.*can't be told apart"):
        Line(tmp_path, "text", tmp_path, preprocess={"languages": ["english"]})


# ------------------------------------------------------------------------------------------------ quality
@pytest.mark.parametrize(
    ("rule", "content", "value"),
    [
        ("min_words", "one two three", 3),
        ("max_words", "one two three", 3),
        ("min_mean_word", "a bb ccc", 2),
        ("max_mean_word", "a bb ccc", 2),
        ("min_stop_words", "The cat and THE dog", 2),
        ("max_hashes", "#a # b c", 2 / 4),
        ("max_ellipses", "a... b… c d", 2 / 4),
        ("max_newlines", "a b\nc\n\nd", 3 / 4),
        ("max_bullet_lines", "- a\n• b\nc\n-d", 2 / 4),
        ("max_ellipsis_lines", "a...\n\nb …\nc. d\n", 2 / 3),
        ("min_ended_lines", 'a.\nb!\n\nc"\nd', 3 / 4),
        ("max_short_lines", "x" * 29 + "\n" + "x" * 30, 1 / 2),
        ("min_alphabetic_words", "a1 22 ,, été", 2 / 4),
        ("max_duplicate_lines", "ab\ncd\n ab\nab\n", 2 / 4),
        ("max_duplicate_line_characters", "abcd\nx\nabcd", 4 / 9),
        ("max_duplicate_paragraphs", "a\nb\n\nc\n\na\nb", 1 / 3),
        ("max_duplicate_paragraph_characters", "a\nb\n\ncccc\n\na\nb", 3 / 10),
        ("max_top_2gram", "aa b c aa b d", 6 / 8),  # "aa b" stands twice
        ("max_top_2gram", "a b c a b ddddd eeeee a c ddddd eeeee", 20 / 27),  # of two as frequent the longer
        ("max_top_3gram", "a b c a b c", 6 / 6),
        ("max_top_4gram", "a b c d e a b c d", 8 / 9),
        ("max_top_2gram", "a b c d", 0.0),
        ("max_duplicate_5gram", "a b c d e x a b c d e yy", 5 / 13),
        ("max_duplicate_5gram", "a b c d e f x a b c d e f", 6 / 13),  # two overlapping ones count each word once
        ("max_duplicate_6gram", "a b c d e x a b c d e yy", 0.0),
        ("max_duplicate_10gram", "1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0", 10 / 20),
    ],
)
def test_a_rule_measures_what_it_says(rule: str, content: str, value: float) -> None:
    """The value itself passes, a hair beyond it doesn't."""
    rules = {entry.field: entry for entry in quality.RULES}

    assert rules[rule].value(quality._Document(content)) == pytest.approx(value, abs=1e-12)
    step = 1 if isinstance(value, int) else 0.001
    beyond = value + step if rule.startswith("min_") else value - step
    assert quality.fault(content, Quality(**{rule: value})) is None
    if beyond >= 0:
        assert (quality.fault(content, Quality(**{rule: beyond})) or ("",))[0] == rule


def test_every_limit_has_its_rule() -> None:
    assert {rule.field for rule in quality.RULES} == set(Quality.model_fields) - {"phrases"}
    assert all(field.description for field in Quality.model_fields.values())


def test_rules_survive_a_document_without_words() -> None:
    for rule in quality.RULES:
        assert rule.value(quality._Document("")) >= 0


def test_poor_documents_are_dropped_with_rule_and_value(tmp_path: Path) -> None:
    rows = [{"text": ENGLISH}, {"text": "LOREM Ipsum dolor sit amet"}, {"text": "one two"}]
    config = {"quality": {"min_words": 3, "phrases": ["lorem ipsum"]}, "max_dropped": 0.9}

    line = Line(tmp_path, "text", write_jsonl(tmp_path / "raw.jsonl", rows), preprocess=config).ingest().preprocess()

    assert line.report("preprocess")["dropped"] == {"total": 2, "min_words": 1, "phrases": 1}
    assert "2, at least 3" in (line.paths.reports / "preprocess.html").read_text()


# ------------------------------------------------------------------------------------------------ masking
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIE+abc/=\nDEK-Info: x\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("email", "to jane.doe+x@mail.example.co.uk, now", "to [EMAIL], now"),
        ("email", "(a_b@example.org). End", "([EMAIL]). End"),
        ("email", "A@B.shape x@y.T @decorator user@host git@ a@b", None),
        ("email", "pkg@1.2.3 and me@example.orgx", None),
        ("phone", "call +49 170 1234567 or (555) 123-4567 or 555.123.4567", "call [PHONE] or [PHONE] or [PHONE]"),
        ("phone", "+1-202-555-0143.", "[PHONE]."),
        (
            "phone",
            "1234567890 3.14159265 2024-01-31 1e+10 x+1234567 12-345-6789 +5 +10 +1.4142135623731 (3972320000000,",
            None,
        ),
        ("ip", "from 8.8.8.8, 2001:4860:4860::8888 on", "from [IP], [IP] on"),
        (
            "ip",
            "127.0.0.1 10.1.2.3 192.168.0.1 0.0.0.0 ::1 999.8.8.8 1.2.3 a[::2] ::1:2:3 std::vec 12:30:45 1.2.3.4.5",
            None,
        ),
        ("card", "4111 1111 1111 1111; 5500-0000-0000-0004; 378282246310005", "[CARD]; [CARD]; [CARD]"),
        ("card", "30569309025904 38520000023237 6011111111111117", "[CARD] [CARD] [CARD]"),
        ("card", "4111111111111112 3972320000000 1234567812345670 0.4111111111111111", None),
        ("iban", "DE89 3704 0044 0532 0130 00 and GB82WEST12345698765432", "[IBAN] and [IBAN]"),
        ("iban", "DE88 3704 0044 0532 0130 00 AB12ABCDEFGH", None),
        ("key", "AKIAIOSFODNN7EXAMPLE ghp_" + "a1B2" * 9 + " sk-" + "x" * 40, "[KEY] [KEY] [KEY]"),
        (
            "key",
            "aws_secret_access_key = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'",
            "aws_secret_access_key = '[KEY]'",
        ),
        ("key", f"a\n{PEM}\nb {PEM}", "a\n[KEY]\nb [KEY]"),
        ("key", PEM[:40] + " cut", "[KEY]"),
        ("key", "-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----", None),
        ("key", "task-" + "x" * 40 + " risk-free " + "f" * 64 + " XAKIAIOSFODNN7EXAMPLE", None),
    ],
)
def test_masks_take_what_they_are_for_and_leave_the_rest(
    kind: masking.Kind, content: str, expected: str | None
) -> None:
    found, counts = masking.masked(content, [kind])

    assert found == (expected or content)
    assert counts == {f"masked_{kind}": (expected or "").count(f"[{kind.upper()}]")}
    assert masking.masked(found, [kind])[0] == found


def test_masking_is_counted_by_kind_in_the_report(tmp_path: Path) -> None:
    rows = [{"text": "me@example.com you@example.com 8.8.8.8"}, {"text": "nobody here"}]
    config = {"mask": ["email", "ip"]}

    line = Line(tmp_path, "text", write_jsonl(tmp_path / "raw.jsonl", rows), preprocess=config).ingest().preprocess()

    assert list(line.clean()["content"]) == ["[EMAIL] [EMAIL] [IP]", "nobody here"]
    assert line.report("preprocess")["facts"]["masked_email"] == {"least": 0.0, "mean": 1.0, "most": 2.0}
    assert line.report("preprocess")["facts"]["masked_ip"]["mean"] == 0.5


@pytest.mark.parametrize("piece", ["a", "1", "a.", "1.", "+1 ", "a@", "1:", "-----BEGIN PRIVATE KEY-----", "eyJ", "4 "])
def test_no_text_takes_a_pattern_forever(piece: str) -> None:
    """A regular expression that goes back over and over would need hours for a megabyte."""
    import time

    started = time.process_time()
    masking.masked(piece * (2**20 // len(piece)), ["email", "phone", "ip", "card", "iban", "key"])

    assert time.process_time() - started < 10


def test_without_options_text_is_what_it_was() -> None:
    kept, dropped = clean(["me@example.com  \nAKIAIOSFODNN7EXAMPLE"])

    assert list(kept.columns) == ["id", "label", "split", "sha256", "content", "characters", "bytes", "lines"]
    assert list(kept["content"]) == ["me@example.com\nAKIAIOSFODNN7EXAMPLE"] and dropped.empty


def test_an_empty_table_has_the_same_columns_as_a_full_one() -> None:
    """Shards of one folder have one schema."""
    options: dict[str, object] = {"mask": ("email",), "detect_language": True, "min_characters": 10}
    full, none = clean([ENGLISH], **options)[0], clean(["short"], **options)[0]

    assert list(full.dtypes.items()) == list(none.dtypes.items())


# ------------------------------------------------------------------------------------------------ presets
def test_the_rules_in_the_docs_can_be_used() -> None:
    from ruamel.yaml import YAML

    from genfoundry.config import params as settings

    page = (Path(__file__).parents[3] / "docs/cleaning-text.md").read_text()
    blocks = [YAML(typ="safe").load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]

    assert len(blocks) >= 2
    for block in blocks:
        settings.parse(text.Preprocess, block["preprocess"], "preprocess")
