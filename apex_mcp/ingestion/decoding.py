"""Bytes to clean text: what charset a text is in, and what PostgreSQL and readers can do without."""

import base64
import binascii
import codecs
import re
import unicodedata

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    # UTF-32 first: its little-endian mark begins with the one of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.IGNORECASE)
# What browsers do: nobody who declares these means the C1 control characters.
_WINDOWS_NAMES = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254"}
_SAMPLE_BYTES = 200_000

# What stands beside ASCII in Western texts in cp1252: letters, quotation marks, dashes, signs.
_WESTERN = frozenset(
    b"\x80\x82\x84\x85\x8a\x8c\x8e\x91\x92\x93\x94\x95\x96\x97\x99\x9a\x9c\x9e\x9f\xa0\xa1\xa2\xa3\xa7\xa9\xaa"
    b"\xab\xae\xb0\xb2\xb3\xb4\xb7\xba\xbb\xbd\xbf"
) | frozenset(range(0xC0, 0x100)) - frozenset(b"\xd0\xde\xf0\xfe")
_CYRILLIC_VOWELS = frozenset("аеиоуыэюя".encode("cp1251"))

# Control characters but tab and line feed, lone surrogates, byte order marks, non-characters, soft hyphens.
# Without \x02, which PDFium puts where a word was hyphenated at the end of a line, the word is whole again.
_DROPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\ud800-\udfff\ufeff\ufffe\uffff]")
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]{32,}={0,2}\s*")


def clean_text(text: str) -> str:
    """Text as it is kept: Unicode NFC, line feeds, no control characters, nothing that can't be stored."""
    return unicodedata.normalize("NFC", _DROPPED.sub("", _LINE_ENDS.sub("\n", text)))


def says_nothing(text: str) -> bool:
    """Whether a text is of spaces and of characters without a shape (zero-width ones, marks of direction) only."""
    return all(one.isspace() or unicodedata.category(one) == "Cf" for one in text)


def decode_text(data: bytes, *, markup: bool = False) -> str:
    """Decode a text file, without ever failing: what doesn't decode becomes the replacement character.

    Args:
        data: the file's content.
        markup: the text is HTML or XML, and may name its charset near its beginning.
    """
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return data[len(bom) :].decode(encoding, errors="replace")
    if encoding := wide_encoding(data):
        return data.decode(encoding, errors="replace")
    declared = _declared_encoding(data) if markup else None
    # ISO-2022 is made of ASCII bytes, so it must be asked before UTF-8 says that it can read them.
    if declared and declared.startswith("iso2022") and b"\x1b" in data:
        return data.decode(declared, errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start >= len(data) - 3 and error.reason == "unexpected end of data":
            return data.decode("utf-8", errors="ignore")
    return data.decode(declared or _guessed_encoding(data), errors="replace")


_ASCII_TEXT = bytes([7, 8, 9, 10, 12, 13, *range(32, 127)])


def wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, told by where the zero bytes are."""
    sample = data[:4096]
    if b"\x00" not in sample or len(data) % 2:
        return None
    if sample.count(0) * 4 < len(sample) and not sample.translate(None, _ASCII_TEXT + b"\0"):
        return None  # plain text with some stray zero bytes: in wide Latin text every other byte is zero
    zeros = [sample[offset::4].count(0) for offset in range(4)]
    quarter = len(sample) // 4
    if not len(data) % 4 and quarter and min(zeros[2], zeros[3]) == quarter and zeros[0] < quarter:
        return _if_it_decodes(sample, "utf-32-le")
    if not len(data) % 4 and quarter and min(zeros[0], zeros[1]) == quarter and zeros[3] < quarter:
        return _if_it_decodes(sample, "utf-32-be")
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    # Spaces and line ends have a zero byte in every script: one side of the pairs has zeros, the other none.
    if odd > len(sample) // 40 and even * 20 < odd:
        return _if_it_decodes(sample, "utf-16-le")
    if even > len(sample) // 40 and odd * 20 < even:
        return _if_it_decodes(sample, "utf-16-be")
    return None


def decode_base64_text(data: bytes) -> bytes | None:
    """The bytes of a text that is stored as one block of base64; None where it isn't plainly that."""
    if len(data) > 10_000_000 or not _BASE64.fullmatch(data):
        return None
    try:
        inner = base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        return None
    # Letters that are no base64 decode to noise: a real text has words, and no control characters.
    if any(byte < 32 and byte not in b"\t\r\n" for byte in inner):
        return None
    text = decode_text(inner)
    plain = sum(character.isalnum() or character.isspace() for character in text)
    readable = plain > 0.8 * len(text) and len(text.split()) > 2 and "\ufffd" not in text
    return inner if readable and not _DROPPED.search(text) else None


def _if_it_decodes(sample: bytes, encoding: str) -> str | None:
    try:
        text = sample[: len(sample) // 4 * 4].decode(encoding)
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return None
        text = sample[: error.start].decode(encoding)
    return encoding if "\x00" not in text else None


def _declared_encoding(data: bytes) -> str | None:
    if not (found := _DECLARED.search(data[:4096])):
        return None
    try:
        name = codecs.lookup(found[1].decode("ascii")).name
        "".encode(name)  # "hex" and "zip" are codecs too, and no charsets
    except (LookupError, TypeError):
        return None
    # Wide charsets were told by their bytes; a page that declares one and isn't, is mistaken.
    return None if name.startswith(("utf-16", "utf-32", "utf-7")) else _WINDOWS_NAMES.get(name, name)


def _guessed_encoding(data: bytes) -> str:
    sample = data[:_SAMPLE_BYTES]
    high = [byte for byte in sample if byte >= 0x80]
    letters = sum(chr(byte).isalpha() for byte in sample if byte < 0x80)
    if _WESTERN.issuperset(high) and len(high) < letters / 2:
        return "cp1252"
    import charset_normalizer  # only few texts need it

    best = charset_normalizer.from_bytes(sample).best()
    encoding = best.encoding if best else "cp1252"
    if encoding == "cp1251" and all(0xE0 <= byte <= 0xFA for byte in high):
        # Short Hebrew is taken for Cyrillic. It has no capitals, and few bytes where Russian has its vowels.
        vowels = sum(byte in _CYRILLIC_VOWELS for byte in high)
        return "cp1255" if vowels < 0.3 * len(high) else encoding
    return encoding
