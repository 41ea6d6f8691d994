"""The words of the synthetic sample, from `words.txt`, which explains them; `patents.py` decides who gets which."""

from pathlib import Path

Sentences = list[tuple[str, list[str]]]  # letters of the words that fill the gaps, and the templates to choose from

# What breaks naive readers; {0} is the first word of a title or abstract, {1} the rest.
HARD = [
    '"{0}" so-called ""{1}',
    "{0},{1}, and more",
    "{0}\t{1}",
    "{0}\n{1}",
    "{0}\r\n{1}",
    "{0}; {1};",
    "{0} \\{1}\\",
    "   {0} {1}",
    "{0} of 5 µm ± 0.1 °C (Kühlgerät, ä ö ü ß) {1}",
    "{0} 中文 {1}",
    "{0} 🔧 {1}",
    '{0} {1}"',
]


def _sections() -> dict[str, str]:
    """The text of each section, without the explanation that ends with an empty line."""
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    sections = (section.split("\n", 1) for section in text.split("\n== ")[1:])
    return {name: body.split("\n\n", 1)[1].rstrip() for name, body in sections}


def _blocks(section: str) -> list[tuple[str, list[str]]]:
    """Lines that are not indented, each with the indented lines below it."""
    blocks: list[tuple[str, list[str]]] = []
    for line in section.splitlines():
        if line.startswith(" "):
            blocks[-1][1].append(line.strip())
        else:
            blocks.append((line, []))
    return blocks


def _sentences(section: str) -> Sentences:
    """Every sentence but the first begins with a space; `-` is nothing."""
    sentences: Sentences = []
    for gaps, templates in _blocks(section):
        space = " " if sentences else ""
        sentences.append((gaps.strip("-"), ["" if text == "-" else space + text for text in templates]))
    return sentences


def _subclasses(section: str) -> dict[str, tuple[str, list[str]]]:
    subclasses = {}
    for line, words in _blocks(section):
        symbol, title = line.split(" ", 1)
        subclasses[symbol] = title.upper(), [word.replace("_", " ") for word in " ".join(words).split()]
    return subclasses


_TEXT = _sections()
SUBCLASSES = _subclasses(_TEXT["subclasses"])  # symbol → (title, ten subject words)
PAIRS = [tuple(" ".join(pair.split()).split(" = ")) for pair in _TEXT["pairs"].split(";")]  # [(term, counterpart)]
SENTENCES, TITLES = _sentences(_TEXT["sentences"]), _sentences(_TEXT["titles"])
GENERAL, SYLLABLES, ENDINGS, SURNAMES = (
    _TEXT[name].split() for name in ("general", "syllables", "endings", "surnames")
)
