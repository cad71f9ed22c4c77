"""Generated text that behaves like language: few words are frequent, most are rare; the same for the same seed."""

import itertools
import random
import zipfile
from pathlib import Path

_ONSETS = "b br c cl d dr f g gr h j k l m n p pl r s st t tr v w".split()
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "io", "ou")
_CODAS = ("", "l", "m", "n", "nd", "r", "rt", "s", "st", "t", "x")
_FREQUENT = "the of and to in a is that for on with as was by it from at this are be".split()
_VOCABULARY = 30_000
_NAMES = ("Ada Morel", "Jonas Lind", "Priya Nair", "Tomas Ruiz", "Mei Tanaka", "Olga Petrova")
_COMPANIES = ("Norvik Systems Ltd", "Halden Foods Inc", "Brightwater GmbH", "Castor Mining Corp")


class Texts:
    """A source of sentences.

    Args:
        seed: decides all that follows.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        # The vocabulary is the same for every seed, so that a question's words are the texts' words.
        self._vocabulary = [*_FREQUENT, *_invented(random.Random(1), _VOCABULARY)]
        # Zipf's law: the n-th word comes up once for every n times of the first.
        self._weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(self._vocabulary))))

    def words(self, count: int) -> list[str]:
        return self._random.choices(self._vocabulary, cum_weights=self._weights, k=count)

    def sentence(self) -> str:
        return " ".join(self.words(self._random.randint(8, 20))).capitalize() + "."

    def paragraph(self, sentences: int) -> str:
        return " ".join(self.sentence() for _ in range(sentences))

    def note(self) -> str:
        """A short note as an assistant would write it: somebody, something and a date, unlike any other."""
        day, month = self._random.randint(1, 28), self._random.choice(("March", "June", "October"))
        who, company = self._random.choice(_NAMES), self._random.choice(_COMPANIES)
        return f"{who} of {company} met us on {day} {month} 2025. {self.paragraph(3)}"

    def question(self) -> str:
        """What somebody asks: some frequent words, and two to four that say what it is about."""
        rare = self._random.choices(self._vocabulary[200:5_000], k=self._random.randint(2, 4))
        return " ".join([*self.words(3), *rare])


def _invented(source: random.Random, count: int) -> list[str]:
    words: dict[str, None] = {}
    while len(words) < count:
        syllables = source.choice((1, 2, 2, 3, 3))
        word = "".join(source.choice(_ONSETS) + source.choice(_VOWELS) for _ in range(syllables))
        words[word + source.choice(_CODAS)] = None
    return list(words)


def write_files(folder: Path, count: int, *, seed: int) -> None:
    """A folder of small Markdown and text files."""
    texts = Texts(seed)
    for number in range(count):
        below = folder / f"part-{number // 500:02}"
        below.mkdir(parents=True, exist_ok=True)
        if number % 2:
            (below / f"note-{number:05}.txt").write_text(texts.note() + "\n", encoding="utf-8")
        else:
            body = f"# {texts.sentence()}\n\n{texts.note()}\n\n{texts.paragraph(4)}\n"
            (below / f"page-{number:05}.md").write_text(body, encoding="utf-8")


_CONTENT_TYPES = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONSHIPS = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Target="word/document.xml" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>'
)
_DOCUMENT = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>{}</w:body></w:document>'
)


def write_word_files(folder: Path, count: int, *, seed: int) -> list[Path]:
    """Small Word documents, about 400 characters of text each."""
    texts = Texts(seed)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"letter-{number:04}.docx" for number in range(count)]
    for file in files:
        paragraphs = "".join(
            f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in (texts.note(), texts.paragraph(1))
        )
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
            package.writestr("[Content_Types].xml", _CONTENT_TYPES)
            package.writestr("_rels/.rels", _RELATIONSHIPS)
            package.writestr("word/document.xml", _DOCUMENT.format(paragraphs))
    return files
