"""No damaged file and no odd option gives a traceback: each reader has a result, or one sentence and exit code 2."""

import argparse
import csv
import importlib
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from odd import ODD_WORDS, damaged, damaged_json, examples, kept, sentence, write
from patentcl.common.files import remove
from patentcl.models.embed import embed
from patentcl.models.embed_corpus import embed_corpus
from patentcl.models.load import Model, find_model
from patentcl.models.tokens import tokenise
from patentcl.pipeline import tables_to_triplets
from patentcl.sample.write import write_sample
from patentcl.tables.download import download_tables
from patentcl.tables.restructure import restructure
from patentcl.triplets.dataset import load_dataset
from patentcl.triplets.options import Mining
from patentcl.triplets.write import write_training_csv

IDS = [str(n) for n in range(20)]
CITED = [(str(n), str((n + step) % 20)) for n in range(20) for step in (1, 2, 3)]
SUBCLASSES = [f"{'AF'[n // 5 % 2]}01B" for n in range(20)]
TABLES: dict[str, Sequence[tuple[str, ...]]] = {
    "patents.csv": [
        ("patent_id", "title", "abstract", "date"),
        *((n, f'A "pump" {n}', f"It pumps,\nand so on {n}.", f"19{n:>02}-03-04") for n in IDS),
    ],
    "citations.csv": [("citing", "cited"), *CITED],
    "classes.csv": [("patent_id", "subclass"), *zip(IDS, SUBCLASSES, strict=True)],
    "g_patent.tsv": [("patent_id", "patent_title", "withdrawn"), *((n, f"A pump {n}", "0") for n in IDS)],
    "g_patent_abstract.tsv": [("patent_id", "patent_abstract"), *((n, f'It "pumps"\t{n}.') for n in IDS)],
    "g_us_patent_citation.tsv": [("patent_id", "citation_patent_id"), *CITED],
    "g_cpc_current.tsv": [("patent_id", "cpc_sequence", "cpc_subclass"), *((n, "0", "A01B") for n in IDS)],
    "g_us_rel_doc.tsv": [
        ("patent_id", "related_doc_number", "related_doc_type", "related_doc_kind"),
        ("3", "5", "continuation", "grant"),
    ],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_model: Model) -> Path:
    """Everything that steps write and read, undamaged: own (CSV), today (TSV), zipped, data, t.csv, vectors, sample."""
    folder = tmp_path_factory.mktemp("whole")
    for name in ("own", "today", "zipped"):
        (folder / name).mkdir()
    for name, rows in TABLES.items():
        own = name.endswith(".csv")
        path = folder / ("own" if own else "today") / name
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(
                file, "excel" if own else "excel-tab", quoting=csv.QUOTE_MINIMAL if own else csv.QUOTE_ALL
            ).writerows(rows)
        if not own:
            with zipfile.ZipFile(folder / "zipped" / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(path, name)
    mined(folder)
    write_training_csv(folder / "data" / "triplets" / "FULL", folder / "t.csv")
    write_sample(folder / "sample", 20)
    download_tables(folder / "zipped", ["g_patent"], str(folder / "zipped"))
    embedded(folder, small_model)
    tokenised(folder, small_model)
    return folder


def mined(folder: Path) -> None:
    tables_to_triplets(folder / "own", folder / "data", "FULL", Mining("FULL"))
    load_dataset(folder / "data" / "triplets" / "FULL")


def mined_again(folder: Path) -> None:
    """The triplets from the graph that is there, as with other options."""
    remove(folder / "data" / "triplets")
    mined(folder)


def imported_again(folder: Path) -> None:
    remove(folder / "data" / "ladybug")
    mined_again(folder)


def embedded(folder: Path, model: Model) -> None:
    embed_corpus(model, folder / "own" / "patents.csv", folder / "vectors")


def tokenised(folder: Path, model: Model) -> None:
    data = load_dataset(folder / "data" / "triplets" / "FULL")
    tokens = tokenise(model.load(), len(data.texts), data.blocks, data.fingerprint, folder / "tokens")
    assert len(list(tokens)) == 20


def copied(whole: Path, folder: Path, file: str, content: bytes) -> None:
    """Copy what belongs to a step into `folder`, with `file` damaged."""
    top = {"data": ["data", "own"], "vectors": ["vectors", "own"], "tokens": ["tokens", "data"]}
    for name in top.get(file.split("/")[0], [file.split("/")[0]]):
        copy = shutil.copytree if (whole / name).is_dir() else shutil.copyfile
        copy(whole / name, folder / name)
    write(folder / file, content)


@pytest.mark.parametrize(
    "file", [f"{'own' if name.endswith('csv') else 'today'}/{name}" for name in TABLES] + ["zipped/g_patent.tsv.zip"]
)
def test_damaged_tables(whole: Path, file: str) -> None:
    good = (whole / file).read_bytes()
    lines = [*good.split(b"\r\n"), b""]  # of a ZIP there may be one

    @given(damaged(good))
    @example(b"\r\n".join([lines[0], lines[1] + b'\r"', *lines[3:]]))
    @examples(3)
    def check(content: bytes) -> None:
        with TemporaryDirectory() as name:
            copied(whole, Path(name), file, content)
            said = sentence(lambda: restructure(Path(name) / file.split("/")[0], Path(name) / "graph"))
            assert said or (Path(name) / "graph" / "graph.json").exists()

    check()


def test_damaged_triplets_of_any_source(whole: Path) -> None:
    good = (whole / "t.csv").read_bytes()

    @given(damaged(good))
    @example(good.replace(b"pumps", b"pumps\r", 1))
    @example(good.replace(b'"It pumps', b"It\rpumps", 1))
    @example(good.replace(b"\n", b"\r"))
    @example(",".join(map(str, range(20_000))).encode())
    @examples(40)
    def check(content: bytes) -> None:
        with TemporaryDirectory() as name:
            path = write(Path(name) / "t.csv", content)
            sentence(lambda: load_dataset(path), "t.csv")

    check()


@pytest.mark.parametrize("again", [mined, mined_again, imported_again])
@pytest.mark.parametrize("file", ["graph/graph.json", "ladybug/import.json", "triplets/FULL/triplets.json"])
def test_damaged_records_of_data(whole: Path, file: str, again: Callable[[Path], None]) -> None:
    """The result is the same, or a sentence says what is wrong."""
    good = (whole / "data/triplets/FULL/triplets.parquet").read_bytes()

    @given(damaged_json((whole / "data" / file).read_bytes()))
    @example(b"[]")
    @example(b"[" * 100_000)
    @example(b'{"params": {}, "counts": null}')
    @examples(3)
    def check(content: bytes) -> None:
        with TemporaryDirectory() as name:
            copied(whole, Path(name), f"data/{file}", content)
            if not sentence(lambda: again(Path(name))):
                assert (Path(name) / "data/triplets/FULL/triplets.parquet").read_bytes() == good

    check()


GRAPH = [
    "patents.csv",
    "citations.csv",
    "classifications.csv",
    "cpc_subclasses.csv",
    "outside_patents.csv",
    "patents.parquet",
]
MINED = ["triplets.parquet", "texts.parquet", "retrieval.parquet"]


@pytest.mark.parametrize("file", [*(f"graph/{name}" for name in GRAPH), *(f"triplets/FULL/{name}" for name in MINED)])
def test_damaged_results(whole: Path, file: str) -> None:
    @given(damaged((whole / "data" / file).read_bytes()))
    @examples(2)
    def check(content: bytes) -> None:
        with TemporaryDirectory() as name:
            copied(whole, Path(name), f"data/{file}", content)
            again = imported_again if file.startswith("graph") else mined
            sentence(lambda: again(Path(name)))

    check()


def test_damaged_records_of_vectors_and_tokens(whole: Path, small_model: Model) -> None:
    tokens = next(str(path.relative_to(whole)) for path in (whole / "tokens").rglob("tokens.json"))

    @given(st.data())
    @examples(12)
    def check(data: st.DataObject) -> None:
        file, again = data.draw(st.sampled_from([("vectors/vectors.json", embedded), (tokens, tokenised)]))
        with TemporaryDirectory() as name:
            copied(whole, Path(name), file, data.draw(damaged_json((whole / file).read_bytes())))
            if not sentence(lambda: again(Path(name), small_model)):
                assert kept(Path(name) / Path(file).parent).keys() == kept(whole / Path(file).parent).keys()

    check()


def test_damaged_records_of_samples_and_downloads(whole: Path) -> None:
    def download(folder: Path) -> None:
        download_tables(folder / "zipped", ["g_patent"], str(whole / "zipped"))

    @given(st.data())
    @examples(12)
    def check(data: st.DataObject) -> None:
        sampled = ("sample/sample.json", lambda folder: write_sample(folder / "sample", 20))
        file, again = data.draw(st.sampled_from([sampled, ("zipped/manifest.json", download)]))
        with TemporaryDirectory() as name:
            copied(whole, Path(name), file, data.draw(damaged_json((whole / file).read_bytes())))
            sentence(lambda: again(Path(name)))

    check()


def test_damaged_models(small_model: Model) -> None:
    """A model that loads embeds, and another one is named."""
    files = {path.relative_to(small_model.folder): path.read_bytes() for path in small_model.folder.rglob("*.*")}
    texts = pd.DataFrame({"title": ["Pump", "Lamp", "Café"], "abstract": ["It pumps.", "", "It shines."]})

    def embedded(folder: Path) -> None:
        embed(find_model(str(folder / "model")), texts, folder / "cache")

    def damage(file: Path) -> st.SearchStrategy[tuple[Path, bytes]]:
        few = file.suffix == ".json" and len(files[file]) < 10_000
        return st.tuples(st.just(file), (damaged_json if few else damaged)(files[file]))

    config = json.loads(files[Path("config.json")]) | {"hidden_dropout_prob": float("nan")}
    limits = json.loads(files[Path("sentence_bert_config.json")]) | {"max_seq_length": 1.5}

    @given(st.sampled_from([path for path, content in files.items() if content]).flatmap(damage))
    @example((Path("config.json"), json.dumps(config).encode()))
    @example((Path("sentence_bert_config.json"), json.dumps(limits).encode()))
    @examples(8)
    def check(file: tuple[Path, bytes]) -> None:
        with TemporaryDirectory() as name:
            shutil.copytree(small_model.folder, Path(name) / "model")
            write(Path(name) / "model" / file[0], file[1])
            sentence(lambda: embedded(Path(name)))

    check()


SCRIPTS = ["patent_handler", "patent_triplet_trainer", "patent_embedding_scatter", "demo", "patentcl.download"]
SCRIPTS += ["patentcl.sample.__main__", "patentcl.evaluation.__main__", "patentcl.models.embed_corpus"]


class Parsed(Exception):
    """The command line was accepted."""


def parse(script: str, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a script does before it starts to work."""
    module = importlib.import_module(script)
    real = module.parse_options

    def then_stop(*args: object, **more: object) -> None:
        real(*args, **more)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(module, "parse_options", then_stop)
        try:
            module.main(argv)
        except Parsed:
            return


def flags_of(script: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []

    def parsing(parser: argparse.ArgumentParser, argv: list[str]) -> None:
        said.extend(option for action in parser._actions for option in action.option_strings)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr("argparse.ArgumentParser.parse_args", parsing)
        with pytest.raises(Parsed):
            importlib.import_module(script).main([])
    return [flag for flag in said if flag.startswith("--") and flag != "--help"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_odd_options(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = flags_of(script, monkeypatch)

    needed = ["--model=m", "--texts=t", "--output=o"] if script == "patentcl.models.embed_corpus" else []

    @given(st.sampled_from(flags), st.sampled_from(ODD_WORDS) | st.text(max_size=5))
    @example(flags[0], "\x1b[31m\n")
    @examples(12)
    def check(flag: str, word: str) -> None:
        said = sentence(lambda: parse(script, [*needed, f"{flag}={word}"], monkeypatch))
        assert not said or flag in said or word in said or not word.isprintable(), said

    check()
