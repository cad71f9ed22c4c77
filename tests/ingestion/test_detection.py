import io
import tarfile

import pytest

from apex_mcp.errors import Code, InputError
from apex_mcp.ingestion.detection import MediaType, detect, media_type_named
from tests.ingestion.documents import make_docx, make_epub, make_pdf, make_pptx, make_xlsx, make_zip

DOCX = make_docx([("", "Hello")])
PPTX = make_pptx([("Hello", [])])
XLSX = make_xlsx({"Sheet": [["a", 1]]})
EPUB = make_epub({"One": "<p>x</p>"}, title="Book")
PDF = make_pdf([["Hello"]])
EMAIL = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: Hi\r\nDate: Tue, 5 Mar 2024 10:00:00 +0100\r\n\r\nHello"
OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PDF, MediaType.PDF),
        (b"\n\njunk before\n" + PDF, MediaType.PDF),
        (DOCX, MediaType.DOCX),
        (PPTX, MediaType.PPTX),
        (XLSX, MediaType.XLSX),
        (EPUB, MediaType.EPUB),
        (rb"{\rtf1 Hello}", MediaType.RTF),
        (EMAIL, MediaType.EMAIL),
        (b"<!-- saved -->\n<!DOCTYPE html><title>x</title>", MediaType.HTML),
        (b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml">', MediaType.HTML),
        ("<html><body>x".encode("utf-16"), MediaType.HTML),
        (b'{"a": [1, 2]}', MediaType.JSON),
        (b"# One\n\ntext\n\n## Two\n", MediaType.MARKDOWN),
        (b"just words", MediaType.TEXT),
        (b'{"a": [1, 2', MediaType.TEXT),
        ("Grüße".encode("cp1252"), MediaType.TEXT),
        ("Hello you".encode("utf-16-le"), MediaType.TEXT),
        ("Hello you".encode("utf-32-be"), MediaType.TEXT),
    ],
)
@pytest.mark.parametrize("name", ["", "doc.txt-c6cqzeua", "folder.d/key"])
def test_content_tells_the_type_where_the_name_does_not(data: bytes, kind: MediaType, name: str) -> None:
    assert detect(data, name) is kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("notes.md", MediaType.MARKDOWN),
        ("PAGE.HTM", MediaType.HTML),
        ("table.csv", MediaType.CSV),
        ("table.tsv", MediaType.CSV),
        ("C:\\notes\\data.json", MediaType.JSON),
        ("mail.eml", MediaType.EMAIL),
        ("plain.txt", MediaType.TEXT),
        ("program.py", MediaType.TEXT),
    ],
)
def test_the_extension_tells_one_text_from_another(name: str, kind: MediaType) -> None:
    assert detect(b"a,b\n1,2\n", name) is kind


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("application/pdf", MediaType.PDF),
        ("pdf", MediaType.PDF),
        ("PDF", MediaType.PDF),
        (".epub", MediaType.EPUB),
        ("markdown", MediaType.MARKDOWN),
        ("md", MediaType.MARKDOWN),
        ("htm", MediaType.HTML),
        ("email", MediaType.EMAIL),
        ("word", MediaType.DOCX),
    ],
)
def test_types_have_short_names(said: str, kind: MediaType) -> None:
    assert media_type_named(said) is kind


def test_a_type_that_nothing_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError) as caught:
        media_type_named("image/png")
    assert "pdf, docx" in caught.value.next_step


def test_names_are_asked_in_order_and_a_declaration_last() -> None:
    assert detect(b"words", "tmp8271", "report.md") is MediaType.MARKDOWN
    assert detect(b"words", "report.txt", declared="text/html; charset=utf-8") is MediaType.TEXT
    assert detect(b"words", "tmp8271", declared="text/html; charset=utf-8") is MediaType.HTML
    assert detect(b"words", "tmp8271", declared="application/octet-stream") is MediaType.TEXT


def test_a_structure_of_its_own_wins_over_an_extension_of_texts() -> None:
    assert detect(PDF, "report.txt") is MediaType.PDF


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (DOCX, "slides.pptx", "a Word document"),
        (b"no slides at all", "slides.pptx", "a text"),
        (make_zip({"readme.txt": "x"}), "slides.pptx", "a zip archive"),
        (b"<html><body>not found</body></html>", "report.pdf", "a text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "report.pdf", "a PNG image"),
        (bytes(range(256)) * 4, "report.docx", "something else"),
    ],
)
def test_a_file_that_is_not_what_its_extension_says_is_named(data: bytes, name: str, said: str) -> None:
    with pytest.raises(InputError, match=f"the content is {said}") as caught:
        detect(data, name)
    assert caught.value.code is Code.TYPE_MISMATCH


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "a JPEG image"),
        (b"\x7fELF" + bytes(100), "a program"),
        (b"MZ" + bytes(100), "a program"),
        (b"ID3" + bytes(100), "a sound file"),
        (b"RIFF\x00\x00\x00\x00WEBP" + bytes(100), "a WebP image"),
        (b"\x1f\x8b" + bytes(100), "a gzip archive"),
        (tar(), "a tar archive"),
        (make_zip({"readme.txt": "x"}), "a zip archive"),
        (make_zip({"mimetype": "application/vnd.oasis.opendocument.text"}), "an OpenDocument file"),
        (OLE2, "a document of an old Office program"),
        (bytes(range(256)) * 4, "binary data"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_can(data: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        detect(data)
    assert caught.value.code is Code.UNSUPPORTED_TYPE
    assert set(caught.value.details["supported"]) == set(MediaType)


@pytest.mark.parametrize(
    "text", [b"MZ is what these begin with", b"BZh and ID3 are words here", b"GIF89a is a format"]
)
def test_a_text_that_begins_like_a_signature_is_a_text(text: bytes) -> None:
    assert detect(text) is MediaType.TEXT


def test_an_encrypted_office_document_asks_for_a_copy_without_password() -> None:
    with pytest.raises(InputError) as caught:
        detect(OLE2 + "EncryptedPackage".encode("utf-16-le"), "report.xlsx")
    assert caught.value.code is Code.PASSWORD_PROTECTED


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\n" * 10_000])
@pytest.mark.parametrize("name", ["empty.txt", "empty.pdf", ""])
def test_nothing_but_space_is_empty(data: bytes, name: str) -> None:
    with pytest.raises(InputError) as caught:
        detect(data, name)
    assert caught.value.code is Code.EMPTY_CONTENT


@pytest.mark.parametrize("name", ["report.docx", ""])
def test_a_package_that_was_cut_off_is_malformed(name: str) -> None:
    with pytest.raises(InputError) as caught:
        detect(DOCX[: len(DOCX) // 2], name)
    assert caught.value.code is Code.MALFORMED


def test_a_page_that_begins_with_very_many_comments_is_told_quickly() -> None:
    assert detect(b"<!-- x -->" * 5_000 + b"<p>no html tag") is MediaType.TEXT
