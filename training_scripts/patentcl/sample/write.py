"""Write the synthetic sample as PatentsView's tables: as today's, or as those before 2023.

The patents are invented, the CPC symbols are real, and the text carries a signal that a model can learn: `plan.py`
says how, `patents.py` makes the rows, and `words.txt` holds the words.
"""

import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, repeat
from pathlib import Path
from typing import IO, Any

from ..common.cli import InputError, check_seed
from ..common.files import beside, check_replaceable, is_done, read_json, write_record
from .patents import Fields, invent
from .plan import BLOCK, CITATIONS, Plan
from .words import SUBCLASSES

RECORD = "sample.json"

# What a table holds → its file and columns; `column=field` where a column is not called like its field.
TODAY = {
    "patents": """g_patent: patent_id patent_type patent_date patent_title wipo_kind num_claims withdrawn filename""",
    "abstracts": """g_patent_abstract: patent_id patent_abstract""",
    "citations": """g_us_patent_citation: patent_id citation_sequence citation_patent_id citation_date record_name
        wipo_kind citation_category""",
    "classes": """g_cpc_current: patent_id cpc_sequence cpc_section cpc_class cpc_subclass cpc_group cpc_type""",
    "subclasses": """cpc_group: id title""",
}
BEFORE_2023 = {
    "patents": """patent: id=patent_id type=patent_type number=patent_id country date=patent_date
        abstract=patent_abstract title=patent_title kind=wipo_kind num_claims filename withdrawn""",
    "citations": """uspatentcitation: uuid patent_id citation_id=citation_patent_id date=citation_date
        name=record_name kind=wipo_kind country category=citation_category sequence=citation_sequence""",
    "classes": """cpc_current: uuid patent_id section_id=cpc_section subsection_id=cpc_class group_id=cpc_subclass
        subgroup_id=cpc_group category=cpc_type sequence=cpc_sequence""",
    "subclasses": """cpc_group: id title""",
}
UNQUOTED = {"num_claims", "withdrawn", "citation_sequence", "cpc_sequence"}


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
    if patents < 1:
        raise InputError(f"--patents {patents}: must be at least 1")
    if not 0 < citations <= 100:
        raise InputError(f"--citations {citations}: must be above 0 and at most 100")
    check_seed(seed)
    params = {"patents": patents, "seed": seed, "citations": citations, "old_columns": old_columns, "zip": zipped}
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
        counts = _write_tables(
            Plan.draw(patents, seed, citations), folder, BEFORE_2023 if old_columns else TODAY, zipped
        )
        files = sorted(path.name for path in folder.iterdir())
        write_record(folder / RECORD, {"params": params, "counts": counts}, files)
    return counts


def _write_tables(plan: Plan, folder: Path, layout: dict[str, str], zipped: bool) -> dict[str, int]:
    counts: Counter[str] = Counter()
    with ExitStack() as opened:
        tables = {name: Table(opened, folder, layout[name], zipped) for name in layout}
        tables["subclasses"].write({"id": list(SUBCLASSES), "title": [title for title, _ in SUBCLASSES.values()]})
        for first in range(0, plan.patents, BLOCK):
            rows, counted = invent(plan, first)
            counts.update(counted)
            for name in tables.keys() & rows.keys():  # the old layout has no table of abstracts
                tables[name].write(rows[name])
    return dict(counts)


class Table:
    """One TSV file as PatentsView writes it: texts quoted, numbers not, a header row; optionally in a ZIP."""

    def __init__(self, opened: ExitStack, folder: Path, layout: str, zipped: bool) -> None:
        """Create the file that `layout` names and write its header; `opened` closes it."""
        name, columns = layout.split(":")
        pairs = [column.partition("=") for column in columns.split()]
        self.fields = [field or column for column, _, field in pairs]
        self.row = "\t".join("%s" if field in UNQUOTED else '"%s"' for field in self.fields) + "\n"
        self.always: Fields = {"country": repeat("US"), "uuid": map("{:025d}".format, count())}
        self.file = opened.enter_context(_create(folder / f"{name}.tsv", zipped))
        self.file.write(("\t".join(f'"{column}"' for column, _, _ in pairs) + "\n").encode())

    def write(self, rows: Fields) -> None:
        """Append rows, field → values; quotes in texts must be doubled already."""
        columns = {**self.always, **rows}
        lines = (self.row % values for values in zip(*(columns[f] for f in self.fields), strict=False))
        self.file.write("".join(lines).encode())


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
