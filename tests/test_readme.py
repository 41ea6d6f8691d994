"""The README and docs/ match the repository: scripts, flags, make targets, links, Python that parses."""

import ast
import importlib
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "benchmarks/README.md", "data/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z_-]+")
SHELL = {".", "export", "(cd"}  # not commands of this repository
SERVER = {"--overwrite-destination", "--nodes", "--nproc-per-node"}  # flags of neo4j-admin and torchrun in running text

Help = Callable[[str], str]


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(page: Path) -> list[list[str]]:
    """The commands of the page's sh blocks, without comments, NAME=value in front, and `&&`."""
    commands = []
    for line in "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for command in " ".join(map(shlex.quote, words)).split(" '&&' "):
            words = shlex.split(command)
            while words and (re.match(r"\w+=", words[0]) or words[0] == "time"):
                words = words[1:]
            if words:
                commands.append(words)
    return commands


@pytest.fixture(scope="module")
def help_of() -> Help:
    """Return the `--help` of a script's path or of a module, from its `main`."""

    @cache
    def help_text(name: str) -> str:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
            patch.setattr(sys, "argv", [name, "--help"])
            if name.endswith(".py"):
                patch.syspath_prepend(str((ROOT / name).parent))
                module = importlib.import_module(Path(name).stem)
            else:
                is_package = (ROOT / "training_scripts" / name.replace(".", "/")).is_dir()
                module = importlib.import_module(f"{name}.__main__" if is_package else name)
            with pytest.raises(SystemExit, match="0"):
                module.main()
        return printed.getvalue()

    return help_text


def flags_in(text: str) -> set[str]:
    return {flag.replace("_", "-") for flag in FLAG.findall(text)}


def entry_point(words: list[str]) -> str:
    """The script or module that a `python` or `torchrun` command runs."""
    return words[words.index("-m") + 1] if "-m" in words else next(word for word in words if word.endswith(".py"))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_name_what_exists_and_flags_that_it_knows(page: Path, help_of: Help) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    services = set(re.findall(r"^  (\w+):$", (ROOT / "compose.yaml").read_text(), re.MULTILINE))
    for words in commands(page):
        program = words[0]
        if program == "python":
            unknown = flags_in(" ".join(words)) - flags_in(help_of(entry_point(words)))
            assert not unknown, f"{page_id(page)}: {shlex.join(words)}"
        elif program == "make":
            assert words[1] in targets
        elif program == "docker":
            assert words[-1] in services
        else:
            assert program in SHELL or program.startswith("$NEO4J_HOME"), shlex.join(words)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_flags_in_running_text_belong_to_some_command(page: Path, help_of: Help) -> None:
    names = ("patent_handler", "patent_triplet_trainer", "patent_embedding_scatter")
    scripts = [f"training_scripts/{name}.py" for name in names]
    scripts += [f"benchmarks/{name}.py" for name in ("mining", "recipes", "scale", "search", "training")]
    modules = [
        f"patentcl.{name}"
        for name in ("sample", "download", "publish", "evaluation", "models.embed_corpus", "similar", "classify")
    ]
    known = {"--help"} | SERVER | set[str]().union(*(flags_in(help_of(name)) for name in [*scripts, *modules]))
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    assert flags_in(text) <= known


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_and_paths_resolve(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        if link.startswith("https://"):
            continue
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    for path in re.findall(r"`((?:training_scripts|tests|benchmarks|docs)/[\w/.-]+)`", text):
        assert (ROOT / path).exists(), path


def anchors(page: Path) -> set[str]:
    """The headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_blocks_parse(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


def test_the_by_hand_import_in_the_docs_is_the_one_that_is_printed() -> None:
    from patentcl.graph.neo4j_admin import import_command
    from patentcl.graph.options import Neo4jOptions

    shown = " ".join((ROOT / "docs" / "neo4j.md").read_text(encoding="utf-8").replace("\\\n", " ").split())
    assert import_command(Path(), Neo4jOptions()).partition(" && ")[2] in shown


def test_the_readme_is_short_and_tables_are_narrow() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 145
    for page in PAGES:
        rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        assert all(row.count("|") <= 7 for row in rows), page
