"""A corpus is embedded to disk in chunks, goes on after a kill, and is shared by several processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patentcl.common.cli import InputError
from patentcl.common.files import read_json
from patentcl.models import embed_corpus as module
from patentcl.models.embed import encode
from patentcl.models.embed_corpus import embed_corpus
from patentcl.models.load import MINILM, Model, find_model


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """40 patents as CSV, one without an abstract, one with a line break and quotes."""
    rows = [(f"{i}", f"Pump {i}", "It pumps water. " * (i % 7 + 1)) for i in range(40)]
    rows[3] = ("3", "Pump", "")
    rows[4] = ("4", 'A "pump"', "first line\nsecond line")
    rows[5] = ("#5", "Pump", "no comment")
    pd.DataFrame(rows, columns=["patent_id", "title", "abstract"]).to_csv(tmp_path / "texts.csv", index=False)
    return tmp_path / "texts.csv"


def expected(texts: Path) -> np.ndarray:
    return encode(find_model(MINILM).load(), pd.read_csv(texts, dtype=str, keep_default_na=False))


def test_vectors_lie_on_disk_in_the_order_of_the_file(texts: Path, tmp_path: Path) -> None:
    output = tmp_path / "vectors"
    record = embed_corpus(find_model(MINILM), texts, output)

    vectors = np.load(output / "vectors.npy", mmap_mode="r")
    assert np.allclose(vectors, expected(texts), atol=1e-5)
    assert (output / "ids.txt").read_text().split() == [*"01234", "#5", *map(str, range(6, 40))]
    assert record["params"] == read_json(output / "vectors.json")["params"] and record["dimensions"] == 384
    assert sorted(path.name for path in output.iterdir()) == ["ids.txt", "vectors.json", "vectors.npy"]
    with pytest.raises(InputError, match="max length 0 → 16"):
        embed_corpus(find_model(MINILM), texts, output, max_length=16)
    texts.write_text(texts.read_text().replace("Pump 1,", "Pump 2,"))  # as many bytes and rows
    with pytest.raises(InputError, match=r"texts 'texts\.csv, "):
        embed_corpus(find_model(MINILM), texts, output)


def test_a_killed_run_goes_on_with_the_chunks_that_are_left(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counting(model: object, chunk: pd.DataFrame) -> np.ndarray:
        asked.append(len(chunk))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return encode(model, chunk)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "CHUNK", 10)
    monkeypatch.setattr(module, "encode", counting)
    with pytest.raises(KeyboardInterrupt):
        embed_corpus(find_model(MINILM), texts, tmp_path / "vectors")
    embed_corpus(find_model(MINILM), texts, tmp_path / "vectors")

    assert asked == [10] * 5  # the third was begun twice
    assert np.allclose(np.load(tmp_path / "vectors" / "vectors.npy"), expected(texts), atol=1e-5)


def interrupted(texts: Path, output: Path, monkeypatch: pytest.MonkeyPatch, after: int = 2) -> Path:
    """Embed two chunks of ten and stop; the folder of the work that is left."""
    count = 0

    def striking(model: object, chunk: pd.DataFrame) -> np.ndarray:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        return encode(model, chunk)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "CHUNK", 10)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "encode", striking)
        embed_corpus(find_model(MINILM), texts, output)
    return output.with_name(f".{output.name}.partial")


@pytest.mark.parametrize("damage", ["cut", "gone", "power cut"])
def test_work_that_was_damaged_is_done_again(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    work = interrupted(texts, tmp_path / "vectors", monkeypatch)
    if damage == "cut":
        with (work / "vectors.npy").open("r+b") as file:
            file.truncate(1000)
    elif damage == "gone":
        (work / "vectors.npy").unlink()
    else:
        (work / "done-0").write_bytes(b"0\n\0\0\0\0")

    embed_corpus(find_model(MINILM), texts, tmp_path / "vectors")

    assert np.allclose(np.load(tmp_path / "vectors" / "vectors.npy"), expected(texts), atol=1e-5)


def test_interrupted_work_of_other_inputs_is_not_thrown_away(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = interrupted(texts, tmp_path / "vectors", monkeypatch)
    with pytest.raises(InputError, match=r"of other inputs \(max length 0 → 16\): add --overwrite"):
        embed_corpus(find_model(MINILM), texts, tmp_path / "vectors", max_length=16)
    assert (work / "done-0").read_text() == "0\n1\n"

    embed_corpus(find_model(MINILM), texts, tmp_path / "vectors", max_length=16, overwrite=True)

    assert not work.exists()


def test_a_file_that_changes_meanwhile_and_names_that_are_patterns_are_refused(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def growing(self: Model, max_length: int) -> object:
        texts.write_text(texts.read_text() + "99,A,B\n" * 1100)  # more than two chunks
        return load(self, max_length)

    load = Model.load
    pattern = texts.rename(tmp_path / "t[a-z]xts.csv")
    with pytest.raises(InputError, match="rename it"):
        embed_corpus(find_model(MINILM), pattern, tmp_path / "vectors")
    pattern.rename(texts)
    monkeypatch.setattr(Model, "load", growing)
    with pytest.raises(InputError, match="was changed while it was embedded: start again"):
        embed_corpus(find_model(MINILM), texts, tmp_path / "vectors")
    assert not (tmp_path / "vectors").exists()


def test_a_parquet_file_of_numbers_is_read_and_its_folders_name_is_no_column(tmp_path: Path) -> None:
    (tmp_path / "patent_id=5").mkdir()
    file = tmp_path / "patent_id=5" / "t.PARQUET"
    pd.DataFrame({"patent_id": [1, 2], "title": [7, None], "abstract": ["x", "y"]}).to_parquet(file)

    assert embed_corpus(find_model(MINILM), file, tmp_path / "v")["texts"] == 2
    assert (tmp_path / "v" / "ids.txt").read_text() == "1\n2\n"


def test_two_processes_share_a_corpus(texts: Path, tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(
        "import sys\nfrom patentcl.models import embed_corpus\nembed_corpus.CHUNK = 10\n"
        f"sys.argv[1:] = ['--model', 'minilm', '--texts', {str(texts)!r}, '--output', {str(tmp_path / 'v')!r}]\n"
        "embed_corpus.main()\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]

    subprocess.run(launch, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert np.allclose(np.load(tmp_path / "v" / "vectors.npy"), expected(texts), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "says"),
    [("patent_id,title\n1,x\n", "line 1: .* abstract, found 0"),
     ("patent_id;title;abstract\n1;x;y\n", "separated by commas"),
     ("patent_id,title,abstract\n", "holds no row"),
     ("patent_id,title,abstract\n1,x,y\n,x,y\n", "1 of 2 rows have no patent_id"),
     ('patent_id,title,abstract\n"1\n2",x,y\n', "has a line break"),
     ("patent_id,title,abstract\n1,x,y\n2,x\n", r"line 3 cannot be read .*: mend that line"),
     ('patent_id,title,abstract\n1,x,"y\n2,x,y\n', r"line 2 cannot be read .*: mend that line"),
     ("patent_id,title,abstract\n1,x,y\n2,\xe9,y\n", "line 3 is not UTF-8: save the file as UTF-8")],
)  # fmt: skip
def test_a_file_that_cannot_be_embedded_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "texts.csv").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=says):
        embed_corpus(find_model(MINILM), tmp_path / "texts.csv", tmp_path / "v")
    with pytest.raises(InputError, match="there is no file"):
        embed_corpus(find_model(MINILM), tmp_path / "none.csv", tmp_path / "v")
