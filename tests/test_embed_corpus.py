"""A corpus is embedded to disk in chunks, resumes after a kill, and is shared by several processes."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sentence_transformers import SentenceTransformer

from patentcl.common.cli import InputError
from patentcl.common.files import read_json
from patentcl.models import embed_corpus as module
from patentcl.models.embed import encode, encode_blocks
from patentcl.models.embed_corpus import embed_corpus
from patentcl.models.load import Model


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """40 patents as CSV, one without an abstract, one with a line break and quotes."""
    rows = [(f"{i}", f"Pump {i}", "It pumps water. " * (i % 7 + 1)) for i in range(40)]
    rows[3] = ("3", "Pump", "")
    rows[4] = ("4", 'A "pump"', "first line\nsecond line")
    rows[5] = ("#5", "Pump", "no comment")
    pd.DataFrame(rows, columns=["patent_id", "title", "abstract"]).to_csv(tmp_path / "texts.csv", index=False)
    return tmp_path / "texts.csv"


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the chunks that are embedded, ten texts each; a KeyboardInterrupt comes in the third."""
    sizes: list[int] = []

    def counting(model: SentenceTransformer, blocks: Iterator[pd.DataFrame]) -> Iterator[np.ndarray]:
        for vectors in encode_blocks(model, blocks):
            sizes.append(len(vectors))
            if len(sizes) == 3:
                raise KeyboardInterrupt
            yield vectors

    monkeypatch.setattr(module, "CHUNK", 10)
    monkeypatch.setattr(module, "encode_blocks", counting)
    return sizes


@pytest.fixture
def interrupted(small_model: Model, texts: Path, tmp_path: Path, chunks: list[int]) -> list[int]:
    """The `chunks` of a run that was interrupted."""
    with pytest.raises(KeyboardInterrupt):
        embed_corpus(small_model, texts, tmp_path / "vectors")
    return chunks


def check(output: Path, texts: Path, model: Model) -> None:
    vectors = np.load(output / "vectors.npy", mmap_mode="r")
    patents = pd.read_csv(texts, dtype=str, keep_default_na=False)
    assert vectors.dtype == np.float16
    assert np.allclose(vectors, encode(model.load(), patents), rtol=1e-3, atol=1e-4)
    assert (output / "ids.txt").read_text().split("\n") == [*patents["patent_id"], ""]


def test_embeddings_are_in_the_order_of_the_file(small_model: Model, texts: Path, tmp_path: Path) -> None:
    output = tmp_path / "vectors"
    record = embed_corpus(small_model, texts, output)

    check(output, texts, small_model)
    assert record["params"] == read_json(output / "vectors.json")["params"] and record["dimensions"] == 32
    assert sorted(path.name for path in output.iterdir()) == ["ids.txt", "vectors.json", "vectors.npy"]


def test_all_digits_are_stored_if_asked(small_model: Model, texts: Path, tmp_path: Path) -> None:
    embed_corpus(small_model, texts, tmp_path / "v", dtype="float32")

    patents = pd.read_csv(texts, dtype=str, keep_default_na=False)
    assert np.allclose(np.load(tmp_path / "v" / "vectors.npy"), encode(small_model.load(), patents), atol=1e-5)


def test_numbers_that_float16_does_not_hold_are_refused(
    small_model: Model, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "encode_blocks", lambda *given: (part * 1e6 for part in encode_blocks(*given)))
    with np.errstate(over="ignore"), pytest.raises(InputError, match="--dtype"):
        embed_corpus(small_model, texts, tmp_path / "v")


def test_embeddings_of_other_parameters_are_not_replaced(small_model: Model, texts: Path, tmp_path: Path) -> None:
    output = tmp_path / "vectors"
    embed_corpus(small_model, texts, output)

    with pytest.raises(InputError, match="max length 0 → 16"):
        embed_corpus(small_model, texts, output, max_length=16)
    texts.write_text(texts.read_text().replace("Pump 1,", "Pump 2,"))  # as many bytes and rows
    with pytest.raises(InputError, match=r"texts 'texts\.csv, "):
        embed_corpus(small_model, texts, output)


def test_a_killed_run_resumes_with_the_chunks_that_are_left(
    small_model: Model, texts: Path, tmp_path: Path, interrupted: list[int]
) -> None:
    embed_corpus(small_model, texts, tmp_path / "vectors")

    assert interrupted == [10] * 5  # the third was started twice
    check(tmp_path / "vectors", texts, small_model)


@pytest.mark.parametrize("file", ["vectors.npy", "done.npy"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_corrupt_work_is_done_again(
    small_model: Model, texts: Path, tmp_path: Path, interrupted: list[int], file: str, damage: str
) -> None:
    corrupt = tmp_path / ".vectors.work" / file
    corrupt.write_bytes(corrupt.read_bytes()[:100])
    if damage == "gone":
        corrupt.unlink()

    embed_corpus(small_model, texts, tmp_path / "vectors")

    assert len(interrupted) == 3 + 4
    check(tmp_path / "vectors", texts, small_model)


def test_interrupted_work_of_other_parameters_is_not_thrown_away(
    small_model: Model, texts: Path, tmp_path: Path, interrupted: list[int]
) -> None:
    work = tmp_path / ".vectors.work"
    with pytest.raises(InputError, match=r"max length 0 → 16\).*--overwrite"):
        embed_corpus(small_model, texts, tmp_path / "vectors", max_length=16)
    assert np.load(work / "done.npy").tolist() == [True, True, False, False]

    embed_corpus(small_model, texts, tmp_path / "vectors", max_length=16, overwrite=True)

    assert len(interrupted) == 3 + 4 and not work.exists()


def test_a_file_that_changes_meanwhile_is_refused(
    small_model: Model, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def growing(self: Model, max_length: int) -> object:
        texts.write_text(texts.read_text() + "99,A,B\n" * 1100)  # more than two chunks
        return load(self, max_length)

    load = Model.load
    monkeypatch.setattr(Model, "load", growing)
    with pytest.raises(InputError, match=re.escape(str(texts))):
        embed_corpus(small_model, texts, tmp_path / "vectors")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["texts.csv"]


def test_a_parquet_file_of_numbers_is_read_and_its_folders_name_is_no_column(
    small_model: Model, tmp_path: Path
) -> None:
    (tmp_path / "patent_id=5").mkdir()
    file = tmp_path / "patent_id=5" / "t.PARQUET"
    pd.DataFrame({"patent_id": [1, 2], "title": [7, None], "abstract": ["x", "y"]}).to_parquet(file)

    assert embed_corpus(small_model, file, tmp_path / "v")["texts"] == 2
    assert (tmp_path / "v" / "ids.txt").read_text() == "1\n2\n"


TWO = """
import sys
from patentcl.models import embed_corpus

embed_corpus.CHUNK = 10
embed_corpus.main(["--model", sys.argv[1], "--texts", sys.argv[2], "--output", sys.argv[3]])
"""


def test_two_processes_share_a_corpus(small_model: Model, texts: Path, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = [tmp_path / "two.py", small_model.folder, texts, tmp_path / "vectors"]

    subprocess.run([*launch, *arguments], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    check(tmp_path / "vectors", texts, small_model)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("patent_id,title\n1,x\n", r"texts\.csv .*abstract"),
        ("patent_id;title;abstract\n1;x;y\n", r"texts\.csv .*patent_id"),
        ("patent_id,title,abstract\n", r"texts\.csv"),
        ("patent_id,title,abstract\n1,x,y\n,x,y\n", r"texts\.csv: 1 of 2 .*patent_id"),
        ('patent_id,title,abstract\n"1\n2",x,y\n', r"texts\.csv: 1 of 1 .*patent_id"),
        ("patent_id,title,abstract\n1,x,y\n2,x\n", "Line: 3.*: 3 .*: 2"),
        ('patent_id,title,abstract\n1,x,"y\n2,x,y\n', "Line: 2"),
        ("patent_id,title,abstract\n1,x,y\n2,\xe9,y\n", "Line: 3.* UTF-8"),
    ],
)
def test_a_file_that_cannot_be_embedded_is_refused(small_model: Model, tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "texts.csv").write_text(text, encoding="latin-1")

    with pytest.raises(InputError, match=match):
        embed_corpus(small_model, tmp_path / "texts.csv", tmp_path / "v")


@pytest.mark.parametrize("name", ["none.csv", "t[a-z]xts.csv"])
def test_a_path_that_is_missing_or_a_pattern_is_refused(small_model: Model, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=re.escape(name)):
        embed_corpus(small_model, tmp_path / name, tmp_path / "v")
