"""Generated text that behaves like language: few words are frequent, most are rare; the same for the same seed."""

import itertools
import random
import re
import zipfile
from pathlib import Path

# Common English words; the rare ones of a vocabulary are derived from them, so that a model's tokenizer cuts the text into
# about as many pieces as it would cut real prose. Words of random syllables would cost an embedder twice that.
_COMMON = Path(__file__).parents[1] / "apex_mcp" / "ingestion" / "extraction" / "lexicon" / "common_words.txt"
_PREFIXES = ("re", "un", "over", "pre", "non", "inter")
_SUFFIXES = ("s", "ing", "ed", "er", "ly", "ness", "able", "less", "ful", "ment")
_FREQUENT = "the of and to in a is that for on with as was by it from at this are be".split()
_WORDS = 30_000
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
        self._vocabulary = _vocabulary(random.Random(1), _WORDS)
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


def _vocabulary(source: random.Random, count: int) -> list[str]:
    """Words by rank: the frequent ones, the common ones, then derived ones."""
    common = sorted(set(re.findall(r"\b[a-z]{3,}\b", _COMMON.read_text(encoding="utf-8"))))
    source.shuffle(common)
    derived = [prefix + word for prefix in _PREFIXES for word in common]
    derived += [word + suffix for suffix in _SUFFIXES for word in common]
    source.shuffle(derived)
    return list(dict.fromkeys([*_FREQUENT, *common, *derived]))[:count]


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
