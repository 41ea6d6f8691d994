"""Embed a whole corpus to disk: memory stays flat, an interrupted run goes on, several GPUs share the work.

    python -m patentcl.models.embed_corpus --model models/patentCL-10K --texts data/graph/patents.csv --output vectors
    torchrun --nproc-per-node 4 -m patentcl.models.embed_corpus --model …          # a process a GPU

`--texts` is a CSV or Parquet file with the columns patent_id, title, abstract. `<output>/` gets `vectors.npy` (N, d)
float32, to be opened with `numpy.load(…, mmap_mode="r")`, `ids.txt`, a patent_id a line in the same order, and
`vectors.json`, the record.
"""

import argparse
import csv
import os
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from tqdm import tqdm

from ..common.cli import InputError, run_script
from ..common.distributed import join, one_process_a_gpu, rank, wait, world
from ..common.duck import connect, literal
from ..common.files import (
    check_header,
    check_replaceable,
    fingerprint,
    is_done,
    locked,
    move_into_place,
    plain,
    read_json,
    remove,
    write_json,
    write_record,
)
from .device import precision
from .embed import encode
from .load import Model, find_model

CHUNK = 512  # texts that are sorted by length together, and that an interrupt can lose
COLUMNS = ("patent_id", "title", "abstract")


def embed_corpus(
    model: Model, texts: Path, output: Path, max_length: int = 0, overwrite: bool = False
) -> dict[str, Any]:
    """Write the vectors of all rows of `texts` to `output`; return the record.

    Raises `InputError` for a file that cannot be read, has no such columns, or holds no row.
    """
    count = _count(plain(texts))
    params = {
        "model": model.fingerprint,
        "texts": _name_of(texts),
        "max length": max_length,
        "precision": precision(),
    }
    record = output / "vectors.json"
    if not overwrite and is_done(record, params):
        print(f"embed: {output} is up to date")
        return read_json(record)
    check_replaceable(record, params, overwrite)
    join()
    with locked(output) if rank() == 0 else nullcontext():
        return _embed_corpus(model, texts, output, params, count, overwrite)


def _embed_corpus(
    model: Model, texts: Path, output: Path, params: dict[str, Any], count: int, overwrite: bool
) -> dict[str, Any]:
    work = output.with_name(f".{output.name}.partial")
    network = model.load(params["max length"])
    width = network.get_embedding_dimension() or 0
    if rank() == 0:
        _prepare(work, params, (count, width), overwrite)
    wait()
    vectors = np.lib.format.open_memmap(work / "vectors.npy", mode="r+")
    _fill(network, texts, vectors, work)
    wait()
    if rank() == 0:
        _write_ids(texts, work / "ids.txt")
        if params["texts"] != _name_of(texts):
            remove(work)  # ids and vectors are of different texts
            raise InputError(f"{texts} was changed while it was embedded: start again")
        done = {"params": params, "texts": count, "dimensions": width}
        write_record(work / "vectors.json", done, ("vectors.npy", "ids.txt"))
        move_into_place(work, output)
        for path in (output / "params.json", *output.glob("done-*")):
            path.unlink()
    return {"params": params, "texts": count, "dimensions": width}


def _name_of(texts: Path) -> str:
    return f"{texts.name}, {fingerprint([texts])}"


def _prepare(work: Path, params: dict[str, Any], shape: tuple[int, int], overwrite: bool) -> None:
    """Make the file of the right size, or see that an interrupted run of the same left one."""
    params = {**params, "texts a chunk": CHUNK}  # what is noted as done are numbers of chunks
    stamp = work / "params.json"
    known = read_json(stamp) if stamp.exists() and not overwrite else {}
    if changed := ", ".join(
        f"{name} {known[name]!r} → {params[name]!r}" for name in params if known.get(name, params[name]) != params[name]
    ):
        raise InputError(f"{work} holds an interrupted run of other inputs ({changed}): add --overwrite to begin anew")
    if known and _has_shape(work / "vectors.npy", shape):
        return
    if known:
        print(f"embed: {work} is damaged: begins anew")
    remove(work)
    work.mkdir(parents=True)
    np.lib.format.open_memmap(work / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a disk that is too small is told now, and not by a signal in the middle
        with (work / "vectors.npy").open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END))
    write_json(work / "params.json", params)


def _has_shape(vectors: Path, shape: tuple[int, int]) -> bool:
    try:
        return np.load(vectors, mmap_mode="r").shape == shape
    except (OSError, ValueError):  # missing, or cut
        return False


def _fill(model: Any, texts: Path, vectors: np.ndarray, work: Path) -> None:
    """Embed this process' share of the chunks that are not there yet; each is noted when it is on disk."""
    done = {int(line) for path in work.glob("done-*") for line in path.read_text().split() if line.isdecimal()}
    with (work / f"done-{rank()}").open("a") as notes:
        bar = tqdm(total=len(vectors), desc="embed", unit="text", unit_scale=True, disable=rank() > 0)
        for number, chunk in enumerate(_chunks(texts)):
            first = number * CHUNK
            chunk = chunk[: max(0, len(vectors) - first)]  # of a file that grew meanwhile, which is told at the end
            if chunk.empty:
                break
            if number % world() == rank() and number not in done:
                vectors[first : first + len(chunk)] = encode(model, chunk)
                vectors.flush()  # type: ignore[attr-defined]
                notes.write(f"{number}\n")
                notes.flush()
            bar.update(len(chunk))
        bar.close()


def _chunks(texts: Path) -> Iterator[pd.DataFrame]:
    with connect() as db:
        for batch in db.sql(_select(texts, ", ".join(COLUMNS))).to_arrow_reader(CHUNK):
            yield batch.to_pandas()


def _write_ids(texts: Path, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for chunk in _chunks(texts):
            file.write("".join(f"{patent}\n" for patent in chunk["patent_id"]))


def _count(texts: Path) -> int:
    if not texts.is_file():
        raise InputError(f"there is no file {texts}: name a CSV or Parquet file with {', '.join(COLUMNS)}")
    what = (
        "count(*), count(*) - count(nullif(patent_id, '')), min(patent_id) FILTER (regexp_matches(patent_id, '[\r\n]'))"
    )
    try:
        with connect() as db:
            found = db.execute(_select(texts, f"{what}, count(title), count(abstract)")).fetchone()
    except duckdb.Error as problem:
        raise InputError(_in_a_sentence(texts, str(problem))) from None
    if not found or not found[0]:
        raise InputError(f"{texts} holds no row: name a file with patents")
    if found[1]:
        raise InputError(f"{texts}: {found[1]:,} of {found[0]:,} rows have no patent_id: give each one")
    if found[2]:
        raise InputError(f"{texts}: the patent_id {found[2]!r} has a line break: ids.txt holds one a line, mend it")
    return int(found[0])


def _in_a_sentence(texts: Path, problem: str) -> str:
    first = problem.split("\n")[0]
    line = re.search(r"Line: (\d+)", first)
    if line and "utf-8" in problem.lower():
        return f"{texts}, line {line[1]} is not UTF-8: save the file as UTF-8"
    if line:
        found = re.search(
            r"Expected Number of Columns: \d+ Found: \d+|[Uu]nterminated quote|[Mm]aximum line size", problem
        )
        return f"{texts}, line {line[1]} cannot be read ({found[0] if found else first}): mend that line"
    if problem.startswith("Binder Error"):
        return f"{texts} lacks one of the columns {', '.join(COLUMNS)}: add it"
    return f"{texts} cannot be read ({first}): name a whole CSV or Parquet file"


def _select(texts: Path, what: str) -> str:
    """Rows in the order of the file; a missing title or abstract is the empty text."""
    name = literal(texts)
    source = (
        f"read_parquet({name}, hive_partitioning = false)" if texts.suffix.lower() == ".parquet" else _csv(texts, name)
    )
    columns = "patent_id::VARCHAR AS patent_id, coalesce(title::VARCHAR, '') AS title, "
    columns += "coalesce(abstract::VARCHAR, '') AS abstract"
    return f"SELECT {what} FROM (SELECT {columns} FROM {source})"  # noqa: S608


def _csv(texts: Path, name: str) -> str:
    """Nothing about the file is guessed: DuckDB would take lines that begin with # for comments."""
    columns = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in _header(texts))
    return (
        f"read_csv({name}, header = true, auto_detect = false, columns = {{{columns}}}, delim = ',', quote = '\"', "
        "escape = '\"', comment = '', max_line_size = 100000000)"
    )


def _header(texts: Path) -> list[str]:
    try:
        with texts.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            header = next(csv.reader(file), [])
    except csv.Error:
        raise InputError(f"{texts}, line 1 is not the header of a CSV file: save it as one") from None
    check_header(texts, header, COLUMNS)
    return [column if column in COLUMNS else f"column {place}" for place, column in enumerate(header)]


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
    record = embed_corpus(find_model(args.model), args.texts, args.output.resolve(), args.max_length, args.overwrite)
    print(f"vectors: {args.output / 'vectors.npy'}, {record['texts']:,} x {record['dimensions']}")


if __name__ == "__main__":
    run_script(main)
