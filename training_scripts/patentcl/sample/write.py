"""Write the synthetic sample as PatentsView's tables: as today's, or as those before 2023.

The patents are invented, the CPC symbols are real, and the text carries a signal that a model can learn: `plan.py`
says how, `patents.py` makes the rows, and `sample.toml` holds words and columns.
"""

import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
from pyarrow.csv import WriteOptions, write_csv
from tqdm import tqdm

from ..common.cli import InputError, check_seed
from ..common.files import beside, check_replaceable, is_done, read_json, write_record
from . import proportions
from .patents import invent
from .plan import BLOCK, CITATIONS, Plan
from .words import BEFORE_2023, SUBCLASSES, TODAY

RECORD = "sample.json"
Block = tuple[dict[str, Any], dict[str, int]]  # rows of each table, counts


def write_sample(
    out: Path,
    patents: int = 2000,
    seed: int = 42,
    old_columns: bool = False,
    zipped: bool = False,
    overwrite: bool = False,
    citations: float = CITATIONS,
    real_proportions: bool = False,
) -> dict[str, Any]:
    """Write a sample of `patents` patents into the folder `out`; return its counts, those of `invent`.

    With `real_proportions` numbers and sizes are those of the real tables, see `proportions.py`.

    Equal arguments give equal bytes, and a second call does nothing. Raises `InputError` if `out` holds another
    sample and `overwrite` is off, and always if it holds a file that is not of a sample.
    """
    if patents < 1:
        raise InputError(f"--patents {patents}: must be at least 1")
    if not 0 < citations <= 100:
        raise InputError(f"--citations {citations}: must be above 0 and at most 100")
    check_seed(seed)
    params = {"patents": patents, "seed": seed, "citations": citations, "old_columns": old_columns, "zip": zipped}
    if real_proportions:
        if citations != CITATIONS:
            raise InputError("--citations cannot be combined with --real-proportions, which has its own. Leave one out")
        params["real_proportions"] = True
    record = out / RECORD
    if not overwrite and is_done(record, params):
        print(f"sample: {out} is up to date")
        return dict(read_json(record)["counts"])
    check_replaceable(record, params, overwrite)
    if record.exists():
        foreign = {path.name for path in out.iterdir()} - {RECORD, *read_json(record).get("files", {})}
        if foreign:
            raise InputError(f"{out / min(foreign)} is not of the sample. Move it, or choose another --out")
    with beside(out) as folder:
        folder.mkdir()
        layout = BEFORE_2023 if old_columns else TODAY
        if real_proportions:
            blocks = _ahead(partial(proportions.invent, proportions.Proportions.draw(patents, seed)), patents)
            titles = proportions.titles()
        else:
            blocks = _ahead(partial(invent, Plan.draw(patents, seed, citations)), patents)
            titles = {symbol: subclass["title"] for symbol, subclass in SUBCLASSES.items()}
        bar = tqdm(blocks, total=-(-patents // BLOCK), desc="sample", unit="block", disable=patents <= BLOCK)
        counts = _write_tables(bar, titles, folder, layout, zipped)
        files = sorted(path.name for path in folder.iterdir())
        write_record(folder / RECORD, {"params": params, "counts": counts}, files)
    return counts


def _write_tables(
    blocks: Iterable[Block], titles: dict[str, str], folder: Path, layout: dict[str, Any], zipped: bool
) -> dict[str, int]:
    counts: Counter[str] = Counter()
    with ExitStack() as opened:
        tables: dict[str, _Table] = {}
        subclasses = {"subclasses": pd.DataFrame(titles.items(), columns=["id", "title"])}
        for rows, counted in chain([(subclasses, {})], blocks):
            counts.update(counted)
            for name in layout.keys() & rows.keys():  # the old layout has no table of abstracts
                if name not in tables:  # the small sample has no table of relations
                    file = opened.enter_context(_create(folder / f"{layout[name]['file']}.tsv", zipped))
                    tables[name] = _Table(file, layout[name]["columns"])
                tables[name].write(rows[name])
    return dict(counts)


def _ahead(invent: Callable[[int], Block], patents: int) -> Iterator[Block]:
    """Invent the blocks in order, each while the one before is written."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(invent, 0)
        for first in range(BLOCK, patents, BLOCK):
            invented, waiting = waiting, pool.submit(invent, first)
            yield invented.result()
        yield waiting.result()


class _Table:
    """A TSV file as PatentsView writes it: a header row, texts quoted, numbers not."""

    def __init__(self, file: IO[bytes], columns: list[str]) -> None:
        named = (column.partition("=") for column in columns)
        self.names = {column: name or column for column, _, name in named}  # in the file → in `rows`
        self.file = file
        self.written = 0

    def write(self, rows: pd.DataFrame | pa.Table) -> None:
        """Append `rows`; the first ones below the header."""
        new = {
            "country": lambda: pa.repeat("US", len(rows)),
            "uuid": lambda: [f"{n:025d}" for n in range(self.written, self.written + len(rows))],
        }
        columns = {column: new[name]() if name in new else rows[name] for column, name in self.names.items()}
        options = WriteOptions(include_header=self.written == 0, delimiter="\t", quoting_style="needed")
        write_csv(pa.table(columns), self.file, options)
        self.written += len(rows)


@contextmanager
def _create(path: Path, zipped: bool) -> Iterator[IO[bytes]]:
    """Open `path` for writing, or the member of that name in `path`.zip, dated 1980: equal rows give equal bytes."""
    if not zipped:
        with path.open("wb") as file:
            yield file
        return
    member = zipfile.ZipInfo(path.name)
    member.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(f"{path}.zip", "w") as archive, archive.open(member, "w", force_zip64=True) as file:
        yield file
