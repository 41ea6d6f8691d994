"""Write the synthetic sample as PatentsView's tables: as today's, or as those before 2023."""

import zipfile
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow.csv import WriteOptions, write_csv
from tqdm import tqdm

from ..common.cli import InputError, check_ranges
from ..common.files import beside, finished, read_json, write_record
from ..common.resources import require
from .patents import BLOCK, Rows
from .plan import CITATIONS, Plan, invent
from .words import BEFORE_2023, SUBCLASSES, TODAY

RECORD = "sample.json"
DISK, MEMORY = 1_200, 100  # bytes for each patent


def write_sample(
    out: Path,
    patents: int = 2000,
    seed: int = 42,
    old_columns: bool = False,
    zipped: bool = False,
    overwrite: bool = False,
    citations: float = CITATIONS,
) -> dict[str, Any]:
    """Write a sample of `patents` patents into the folder `out`; return its counts, those of `invent`.

    Equal arguments give equal bytes, and a second call does nothing. Raises `InputError` if `out` holds another
    sample and `overwrite` is off, and always if it holds a file that is not of a sample.
    """
    params = {"patents": patents, "seed": seed, "citations": citations, "old_columns": old_columns, "zip": zipped}
    check_ranges(params, {"patents": "[1, inf)", "citations": "(0, 100]"})
    record = out / RECORD
    if done := finished(record, params, overwrite, "sample"):
        return dict(done["counts"])
    if record.exists():
        for foreign in {path.name for path in out.iterdir()} - {RECORD, *read_json(record).get("files", {})}:
            raise InputError(f"{out / foreign} is not of the sample. Move it, or choose another --out.")
    require(out.parent, DISK * patents, MEMORY * patents, f"a sample of {patents:,} patents", flag="--out")
    plan = Plan.draw(patents, seed, citations)
    blocks = (invent(plan, first) for first in range(0, patents, BLOCK))
    titles = {symbol: subclass["title"] for symbol, subclass in SUBCLASSES.items()}
    return write_tables(out, params, titles, blocks, BEFORE_2023 if old_columns else TODAY)


def write_tables(
    out: Path, params: dict[str, Any], titles: dict[str, str], blocks: Iterable[Rows], layout: dict[str, Any] = TODAY
) -> dict[str, Any]:
    """Write blocks of rows into the tables of a layout, with a record of `params`; return the sums of their counts."""
    counts, written = Counter[str](), Counter[str]()
    subclasses = {"subclasses": pa.table({"id": [*titles], "title": [*titles.values()]})}
    total = -(-params["patents"] // BLOCK)
    with beside(out) as folder:
        folder.mkdir()
        for rows, counted in chain([(subclasses, {})], tqdm(blocks, "sample", total, unit="block", disable=total == 1)):
            counts.update(counted)
            for name in layout.keys() & rows.keys():  # the old layout has no table of abstracts
                with (folder / f"{layout[name]['file']}.tsv").open("ab") as file:
                    _append(rows[name], layout[name]["columns"], file, written[name])
                written[name] += len(rows[name])
        for path in [*folder.iterdir()] if params.get("zip") else []:
            member = zipfile.ZipInfo(path.name)  # dated 1980: equal rows give equal bytes
            member.compress_type = zipfile.ZIP_DEFLATED
            with zipfile.ZipFile(f"{path}.zip", "w") as archive, archive.open(member, "w", force_zip64=True) as zipped:
                zipped.write(path.read_bytes())
            path.unlink()
        files = sorted(path.name for path in folder.iterdir())
        write_record(folder / RECORD, {"params": params, "counts": counts}, files)
    return dict(counts)


def _append(rows: pa.Table, columns: list[str], file: IO[bytes], written: int) -> None:
    """Append rows to a table of `written` ones as PatentsView writes it: a header row, texts quoted, numbers not."""
    n = len(rows)
    new = {"country": lambda: pa.repeat("US", n), "uuid": lambda: [f"{written + k:025d}" for k in range(n)]}
    named = (column.partition("=") for column in columns)
    table = pa.table({column: new[column]() if column in new else rows[name or column] for column, _, name in named})
    write_csv(table, file, WriteOptions(include_header=written == 0, delimiter="\t", quoting_style="needed"))
