"""A corpus is embedded to disk in chunks, goes on after a kill, and is shared by several processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patentcl import embed_corpus as module
from patentcl.embed_corpus import embed_corpus
from patentcl.embeddings import encode
from patentcl.files import InputError, read_json
from patentcl.models import MINILM, load_model


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
    return encode(load_model(MINILM), pd.read_csv(texts, dtype=str, keep_default_na=False))


def test_vectors_lie_on_disk_in_the_order_of_the_file(texts: Path, tmp_path: Path) -> None:
    output = tmp_path / "vectors"
    record = embed_corpus(MINILM, texts, output)

    vectors = np.load(output / "vectors.npy", mmap_mode="r")
    assert np.allclose(vectors, expected(texts), atol=1e-5)
    assert (output / "ids.txt").read_text().split() == [*"01234", "#5", *map(str, range(6, 40))]
    assert record == read_json(output / "vectors.json") and record["dimensions"] == 384
    assert sorted(path.name for path in output.iterdir()) == ["ids.txt", "vectors.json", "vectors.npy"]
    with pytest.raises(InputError, match="max length 0 → 16"):
        embed_corpus(MINILM, texts, output, max_length=16)
    texts.write_text(texts.read_text().replace("Pump 1,", "Pump 2,"))  # as many bytes and rows
    with pytest.raises(InputError, match=r"texts 'texts\.csv, "):
        embed_corpus(MINILM, texts, output)


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
        embed_corpus(MINILM, texts, tmp_path / "vectors")
    embed_corpus(MINILM, texts, tmp_path / "vectors")

    assert asked == [10] * 5  # the third was begun twice
    assert np.allclose(np.load(tmp_path / "vectors" / "vectors.npy"), expected(texts), atol=1e-5)


def test_two_processes_share_a_corpus(texts: Path, tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(
        "import sys\nfrom patentcl import embed_corpus\nembed_corpus.CHUNK = 10\n"
        f"sys.argv[1:] = ['--model', 'minilm', '--texts', {str(texts)!r}, '--output', {str(tmp_path / 'v')!r}]\n"
        "embed_corpus.main()\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]

    subprocess.run(launch, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert np.allclose(np.load(tmp_path / "v" / "vectors.npy"), expected(texts), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "says"),
    [("patent_id,title\n1,x\n", "line 1: the column abstract stands there 0 times"),
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
        embed_corpus(MINILM, tmp_path / "texts.csv", tmp_path / "v")
    with pytest.raises(InputError, match="there is no file"):
        embed_corpus(MINILM, tmp_path / "none.csv", tmp_path / "v")
