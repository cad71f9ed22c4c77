import base64
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex_mcp.ingestion.decoding import clean_text, decode_base64_text, decode_text

ENGLISH = "The quick brown fox, and so on.\nSecond line."


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("text", [ENGLISH, "Grüße aus Köln: 15 €", "Привет, как дела? Хорошо."])
def test_unicode_is_told_with_and_without_its_mark(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Die schöne Frau hat gegessen. “Köstlich!” — 15,50 €", "cp1252"),
        ("L'été était très chaud cette année.", "latin-1"),
        ("Привет, как дела? Сегодня хорошая погода, пойдём гулять.", "cp1251"),
        ("これは日本語のテキストです。今日は天気がいい。", "shift_jis"),
        ("这是一个中文文本。今天天气很好。", "gb18030"),
        ("한국어 텍스트입니다. 오늘 날씨가 좋네요.", "euc-kr"),
        ("עדכון נדרשת חתימה על הבקשה לרישום", "iso-8859-8"),
    ],
)
def test_older_charsets_are_told_by_their_letters(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding)) == text


@pytest.mark.parametrize(
    "declaration",
    [
        '<meta charset="{}">',
        '<?xml version="1.0" encoding="{}"?>',
        '<meta http-equiv=Content-Type content="text/html; charset={}">',
    ],
)
@pytest.mark.parametrize(
    ("charset", "text"),
    [("koi8-r", "ну да"), ("iso-2022-jp", "日本語"), ("windows-1250", "żółć"), ("iso-8859-1", "15 €")],
)
def test_markup_says_its_charset(declaration: str, charset: str, text: str) -> None:
    page = f"{declaration.format(charset)}<p>{text}</p>"
    encoded = page.encode("cp1252" if charset == "iso-8859-1" else charset)
    assert decode_text(encoded, markup=True) == page


@pytest.mark.parametrize("charset", ["no-such-charset", "hex", "utf-16", "zlib"])
def test_a_false_declaration_is_not_believed(charset: str) -> None:
    page = f'<meta charset="{charset}"><p>Grüße</p>'
    assert decode_text(page.encode("cp1252"), markup=True) == page


def test_utf8_that_was_cut_within_a_character_stays_utf8() -> None:
    assert decode_text("Grüße und Kü".encode()[:-1]) == "Grüße und K"


def test_base64_that_holds_a_text_is_decoded() -> None:
    text = "עדכון Tesla - נדרשת חתימה על הבקשה לרישום"
    inner = decode_base64_text(base64.encodebytes(text.encode("iso-8859-8")))
    assert inner is not None
    assert decode_text(inner) == text


@pytest.mark.parametrize(
    "data",
    [
        b"Antidisestablishmentarianism1234",
        b"c29tZQ==",
        base64.b64encode(bytes(range(256))),
        b"deadbeefdeadbeefdeadbeefdeadbeef",
        b"An ordinary sentence that has only letters and spaces in it",
        b"A" * 100_000,
        b"w" * 500,
    ],
)
def test_what_only_looks_like_base64_is_left_alone(data: bytes) -> None:
    assert decode_base64_text(data) is None


def test_line_ends_are_one_kind_and_what_cannot_be_stored_is_gone() -> None:
    dirty = "\ufeffa\r\nb\rc\u2028d\x85e\x0cf\x00\x07\x1b[0m\ud800g\x02h\xad\uffffi\tj"
    assert clean_text(dirty) == "a\nb\nc\nd\ne\nf[0mghi\tj"


def test_accents_are_composed() -> None:
    assert clean_text("Cafe\u0301") == "Café"


@given(st.text(alphabet=st.characters()))
def test_clean_text_has_no_controls_and_stays_as_it_is(text: str) -> None:
    clean = clean_text(text)
    assert clean == clean_text(clean)
    assert all(
        character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs") for character in clean
    )
    clean.encode()


@given(st.binary(max_size=300))
def test_any_bytes_decode_to_some_text(data: bytes) -> None:
    clean_text(decode_text(data)).encode()
    decode_text(data, markup=True)
    decode_base64_text(data)


def test_stray_zero_bytes_do_not_make_a_text_wide() -> None:
    assert clean_text(decode_text(b"The bell\x07 of \x00lovage...")) == "The bell of lovage..."
