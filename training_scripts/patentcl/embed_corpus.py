"""Embed a whole corpus to disk: memory stays flat, an interrupted run goes on, several GPUs share the work.

    python -m patentcl.embed_corpus --model models/patentCL-10K --texts data/graph/patents.csv --output data/vectors
    torchrun --nproc-per-node 4 -m patentcl.embed_corpus --model …          # a process a GPU

`--texts` is a CSV or Parquet file with the columns patent_id, title, abstract. `<output>/` gets `vectors.npy` (N, d)
float32, to be opened with `numpy.load(…, mmap_mode="r")`, `ids.txt`, a patent_id a line in the same order, and
`vectors.json`, the record.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from tqdm import tqdm

from .embeddings import encode
from .files import InputError, fingerprint, is_done, locked, read_json, remove, run_script, take_place, write_json
from .models import find_model, fingerprint_of, load_model
from .processes import join, one_process_a_gpu, rank, wait, world

CHUNK = 512  # texts that are sorted by length together, and that an interrupt can lose
COLUMNS = ("patent_id", "title", "abstract")


def embed_corpus(
    model_name: str, texts: Path, output: Path, max_length: int = 0, overwrite: bool = False
) -> dict[str, Any]:
    """Write the vectors of all rows of `texts` to `output`; return the record.

    Raises `InputError` for a file that cannot be read, has no such columns, or holds no row.
    """
    count = _count(texts)
    asked = {
        "model": fingerprint_of(find_model(model_name)),
        "texts": f"{texts.name}, {fingerprint([texts])}",
        "max length": max_length,
    }
    record = output / "vectors.json"
    if is_done(record, asked, overwrite, ("vectors.npy", "ids.txt")):
        print(f"embed: {output} is up to date")
        return read_json(record)
    join()
    with locked(output) if rank() == 0 else nullcontext():
        return _embed_corpus(model_name, texts, output, asked, count)


def _embed_corpus(model_name: str, texts: Path, output: Path, asked: dict[str, Any], count: int) -> dict[str, Any]:
    work = output.with_name(f".{output.name}.partial")
    model = load_model(model_name, asked["max length"])
    width = model.get_embedding_dimension() or 0
    if rank() == 0:
        _prepare(work, asked, (count, width))
    wait()
    vectors = np.lib.format.open_memmap(work / "vectors.npy", mode="r+")
    _fill(model, texts, vectors, work)
    wait()
    if rank() == 0:
        _write_ids(texts, work / "ids.txt")
        for name in ("asked.json", *(path.name for path in work.glob("done-*"))):
            (work / name).unlink()
        write_json(work / "vectors.json", {"asked": asked, "texts": count, "dimensions": width})
        take_place(work, output)
    return {"asked": asked, "texts": count, "dimensions": width}


def _prepare(work: Path, asked: dict[str, Any], shape: tuple[int, int]) -> None:
    """Make the file of the right size, or see that an interrupted run of the same left one."""
    asked = {**asked, "texts a chunk": CHUNK}  # what is noted as done are numbers of chunks
    if (work / "asked.json").exists() and read_json(work / "asked.json") == asked:
        return
    remove(work)
    work.mkdir(parents=True)
    np.lib.format.open_memmap(work / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a disk that is too small is told now, and not by a signal in the middle
        with (work / "vectors.npy").open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END))
    write_json(work / "asked.json", asked)


def _fill(model: Any, texts: Path, vectors: np.ndarray, work: Path) -> None:
    """Embed this process' share of the chunks that are not there yet; each is noted when it is on disk."""
    done = {int(line) for path in work.glob("done-*") for line in path.read_text().split() if line}
    with (work / f"done-{rank()}").open("a") as notes:
        bar = tqdm(total=len(vectors), desc="embed", unit="text", unit_scale=True, disable=rank() > 0)
        for number, chunk in enumerate(_chunks(texts)):
            first = number * CHUNK
            if number % world() == rank() and number not in done:
                vectors[first : first + len(chunk)] = encode(model, chunk)
                vectors.flush()  # type: ignore[attr-defined]
                notes.write(f"{number}\n")
                notes.flush()
            bar.update(len(chunk))
        bar.close()


def _chunks(texts: Path) -> Iterator[pd.DataFrame]:
    with duckdb.connect() as db:
        for batch in db.sql(_select(texts, ", ".join(COLUMNS))).to_arrow_reader(CHUNK):
            yield batch.to_pandas()


def _write_ids(texts: Path, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for chunk in _chunks(texts):
            file.write("".join(f"{patent}\n" for patent in chunk["patent_id"]))


def _count(texts: Path) -> int:
    if not texts.is_file():
        raise InputError(f"there is no file {texts}: name a CSV or Parquet file with {', '.join(COLUMNS)}")
    try:
        with duckdb.connect() as db:
            found = db.execute(_select(texts, "count(*), count(patent_id), count(title), count(abstract)")).fetchone()
    except duckdb.Error as problem:
        raise InputError(
            f"{texts} cannot be read ({str(problem).splitlines()[0]}): it must have the columns {', '.join(COLUMNS)}"
        ) from None
    if not found or not found[0]:
        raise InputError(f"{texts} holds no row: name a file with patents")
    return int(found[0])


def _select(texts: Path, what: str) -> str:
    """Rows in the order of the file; a missing title or abstract is the empty text."""
    name = str(texts).replace("'", "''")
    source = f"read_parquet('{name}')" if texts.suffix == ".parquet" else _csv(name)
    columns = "patent_id::VARCHAR AS patent_id, coalesce(title, '') AS title, coalesce(abstract, '') AS abstract"
    return f"SELECT {what} FROM (SELECT {columns} FROM {source})"  # noqa: S608


def _csv(name: str) -> str:
    return (
        f"read_csv('{name}', header = true, all_varchar = true, quote = '\"', escape = '\"', max_line_size = 100000000)"
    )


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", required=True, metavar="NAME|DIR", help="hub name, folder, folder in models/, or minilm")
    add("--texts", type=Path, required=True, metavar="FILE", help="CSV or Parquet with patent_id, title, abstract")
    add("--output", type=Path, required=True, metavar="DIR", help="a folder of its own")
    add("--max-length", type=int, default=0, help="tokens of a text that are read (0: as many as the model can)")
    add("--overwrite", action="store_true", help="replace the vectors of other texts or another model")
    return parser.parse_args()


def main() -> None:
    """Embed, say where the vectors lie."""
    args = parse_arguments()
    one_process_a_gpu()
    record = embed_corpus(args.model, args.texts, args.output.resolve(), args.max_length, args.overwrite)
    print(f"vectors: {args.output / 'vectors.npy'}, {record['texts']:,} x {record['dimensions']}")


if __name__ == "__main__":
    run_script(main)
