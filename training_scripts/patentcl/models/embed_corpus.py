"""Embed a corpus to disk: memory use is constant, an interrupted run resumes, several GPUs share the work.

    python -m patentcl.models.embed_corpus --model models/patentCL-10K --texts data/graph/patents.csv --output vectors
    torchrun --nproc-per-node 4 -m patentcl.models.embed_corpus --model …          # one process per GPU

`--texts` is a CSV or Parquet file with the columns patent_id, title, abstract. `<output>/` gets `vectors.npy` (N, d)
float16 or float32, to be opened with `numpy.load(…, mmap_mode="r")`, `ids.txt` with one patent_id per line in the same
order, and `vectors.json`, the record.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import MISSING, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from ..common import files
from ..common.cli import InputError, option, parse_options, run_script
from ..common.distributed import join, launch_one_process_per_gpu, rank, wait, world
from ..common.duck import connect, literal, readable_errors
from .bases import Readout
from .device import precision
from .embed import encode_blocks
from .load import Model, find_model

# Texts that are sorted by length together, and what an interrupt can lose.
CHUNK = 8_192 if torch.cuda.is_available() else 512
COLUMNS = ("patent_id", "title", "abstract")
ADVICE = f"Pass a CSV file in UTF-8, or a Parquet file, with rows of {', '.join(COLUMNS)}."


@dataclass(frozen=True)
class Options(Readout):
    """The command line."""

    model: str = option(MISSING, "hub name, folder, folder in models/, or minilm", metavar="NAME|DIR")
    texts: Path = option(MISSING, "CSV or Parquet file with patent_id, title, abstract", metavar="FILE")
    output: Path = option(MISSING, "folder for the result", metavar="DIR")
    max_length: int = option(0, "truncate texts to this many tokens (0: the model's limit)")
    dtype: Literal["float16", "float32"] = option("float16", "numbers to store: float16 takes half the space")
    overwrite: bool = option(False, "replace embeddings of other texts or another model")


def embed_corpus(
    model: Model, texts: Path, output: Path, max_length: int = 0, dtype: str = "float16", overwrite: bool = False
) -> dict[str, Any]:
    """Write the embeddings of all rows of `texts` to `output`; return the record.

    Raises `InputError` if the file cannot be read, lacks a column or an id, or has no rows.
    """
    count, name = _count(files.plain(texts)), f"{texts.name}, {files.fingerprint([texts])}"
    params = {"model": model.fingerprint, "texts": name, "max length": max_length, "precision": precision()}
    params["dtype"] = dtype
    record = output / "vectors.json"
    if found := files.finished(record, params, overwrite, "embed"):
        return found
    join()
    work = output.with_name(f".{output.name}.work")
    with files.locked(work) if rank() == 0 else nullcontext():
        network = model.load(max_length)
        width = network.get_embedding_dimension() or 0
        if rank() == 0:
            _prepare(work, params, (count, width), overwrite)
        wait()
        _fill(network, texts, work)
        wait()
        done = {"params": params, "texts": count, "dimensions": width}
        if rank() == 0:
            _finish(texts, work, output, done)
    return done


def _prepare(work: Path, params: dict[str, Any], shape: tuple[int, int], overwrite: bool) -> None:
    """Allocate the arrays, unless an interrupted run with the same parameters left them."""
    record, params = work / "work.json", {**params, "texts per chunk": CHUNK}
    if not overwrite and files.is_done(record, params):
        return
    if record.exists():
        files.check_replaceable(record, params, overwrite)
    files.remove(work)
    work.mkdir(parents=True)
    np.lib.format.open_memmap(work / "vectors.npy", mode="w+", dtype=params["dtype"], shape=shape)
    if hasattr(os, "posix_fallocate"):  # fails now if the disk is too small, not by a signal while writing
        with (work / "vectors.npy").open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END))
    np.save(work / "done.npy", np.zeros(-(-shape[0] // CHUNK), bool))
    files.write_record(record, {"params": params}, ["vectors.npy", "done.npy"], final=False)


def _fill(network: SentenceTransformer, texts: Path, work: Path) -> None:
    """Embed this process's share of the missing chunks; a chunk is marked as done when it is on disk."""
    vectors, done = (np.lib.format.open_memmap(work / name, mode="r+") for name in ("vectors.npy", "done.npy"))
    missing = [number for number in range(len(done)) if number % world() == rank() and not done[number]]
    wanted = set(missing)
    blocks = (chunk for number, chunk in enumerate(islice(_chunks(texts), len(done))) if number in wanted)
    count = sum(len(vectors[number * CHUNK :][:CHUNK]) for number in missing)
    with tqdm(total=count, desc="embed", unit="text", unit_scale=True, disable=rank() > 0) as bar:
        for number, embeddings in zip(missing, encode_blocks(network, blocks), strict=False):
            rows = vectors[number * CHUNK :][: len(embeddings)]
            rows[:] = embeddings[: len(rows)]  # fewer if the file has grown, which is reported later
            if not np.isfinite(rows).all():
                raise InputError(f"the model gives NaN, or numbers beyond {rows.dtype}. Pass another --dtype or model.")
            vectors.flush()
            done[number] = True
            done.flush()
            bar.update(len(rows))


def _finish(texts: Path, work: Path, output: Path, record: dict[str, Any]) -> None:
    with (work / "ids.txt").open("w", encoding="utf-8") as file:
        for chunk in _chunks(texts):
            file.writelines(f"{patent}\n" for patent in chunk["patent_id"])
    if not record["params"]["texts"].endswith(files.fingerprint([texts])):
        files.remove(work)
        raise InputError(f"{texts} changed while it was embedded. Run again.")
    files.write_record(work / "vectors.json", record, ["vectors.npy", "ids.txt"])
    with files.beside(output) as scratch:
        for name in ("done.npy", "work.json"):
            (work / name).unlink()
        work.rename(scratch)


def _chunks(texts: Path) -> Iterator[pd.DataFrame]:
    with connect() as db:
        for batch in db.sql(_select(texts)).to_arrow_reader(CHUNK):
            yield batch.to_pandas()


def _count(texts: Path) -> int:
    """Read the file once; return the number of rows."""
    if not texts.is_file():
        raise InputError(f"{texts} is not a file. {ADVICE}")
    unusable = "count(*) FILTER (patent_id = '' OR regexp_matches(patent_id, '[\r\n]'))"
    query = f"SELECT count(*), {unusable}, count(title), count(abstract) FROM ({_select(texts)})"  # noqa: S608
    with connect() as db, readable_errors(f"{texts} cannot be read", ADVICE):
        count, unnamed, *_ = db.execute(query).fetchone() or (0, 0)
    if unnamed or not count:
        bad = f"{unnamed:,} of {count:,} rows have no patent_id or one with a line break" if count else "it has no rows"
        raise InputError(f"{texts}: {bad}. {ADVICE}")
    return int(count)


def _select(texts: Path) -> str:
    """SQL for the rows in the order of the file; a missing title or abstract is the empty text."""
    if texts.suffix.lower() == ".parquet":
        source = f"read_parquet({literal(texts)}, hive_partitioning = false)"
    else:  # nothing is guessed: DuckDB would take lines that begin with # for comments
        with texts.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            header = next(csv.reader(file), [])
        types = {name if name in COLUMNS else f"column {place}": "VARCHAR" for place, name in enumerate(header)}
        options = "header = true, auto_detect = false, delim = ',', quote = '\"', escape = '\"', comment = ''"
        source = f"read_csv({literal(texts)}, columns = {types}, {options})"
    columns = ", ".join(f"coalesce(t.{name}::VARCHAR, '') AS {name}" for name in COLUMNS)
    return f"SELECT {columns} FROM {source} t"  # noqa: S608


def main(argv: Sequence[str] | None = None) -> None:
    """Embed a corpus from the command line."""
    (options,) = parse_options(__doc__, Options, argv=argv)
    launch_one_process_per_gpu()
    model, output = find_model(options.model, options), options.output.resolve()
    record = embed_corpus(model, options.texts, output, options.max_length, options.dtype, options.overwrite)
    print(f"embeddings: {output / 'vectors.npy'}, {record['texts']:,} x {record['dimensions']}")


if __name__ == "__main__":
    run_script(main)
