"""A synthetic sample of PatentsView's tables, of any size, for trying, testing and measuring without a download.

    python -m patentcl.sample --patents 2000 --out data/sample

The patents are invented, the CPC symbols are real, and the text carries a signal that a model can learn: see
`sample_plan.py` for how, `sample_patents.py` for the rows and `sample_words.py` for the words. This module writes them
down, as today's tables or, with `--old-columns`, as those before 2023.
"""

import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, repeat
from pathlib import Path
from typing import IO, Any

from ..common.cli import InputError
from ..common.files import beside, check_replaceable, is_done, read_json, write_record
from .patents import COUNTED, Fields, invent
from .plan import BLOCK, INSIDE, Plan
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
    citations: float = INSIDE,
) -> dict[str, Any]:
    """Write a sample of `patents` patents into the folder `out`; return its counts (`sample_patents.COUNTED`).

    Equal arguments give equal bytes; asked again with the arguments of the sample that is there, it does nothing.
    Raises `InputError` when `out` holds another sample and `overwrite` is off, and always when `out` holds
    something that is no part of a sample.
    """
    if patents < 1 or seed < 0:
        raise InputError(f"--patents {patents} --seed {seed}: ask for at least 1 patent, and a seed from 0 on")
    if not 0 < citations <= 100:
        raise InputError(f"--citations {citations}: draw more than 0 and at most 100 for a patent")
    params = {"patents": patents, "seed": seed, "citations": citations, "old_columns": old_columns, "zip": zipped}
    _refuse_foreign(out)
    if not overwrite and is_done(out / RECORD, params):
        print(f"{out} holds this sample already: nothing to do (--overwrite repeats it)")
        return dict(read_json(out / RECORD)["counts"])
    check_replaceable(out / RECORD, params, overwrite)
    plan = Plan.draw(patents, seed, citations)
    counts = Counter(dict.fromkeys(COUNTED, 0))
    with beside(out) as folder:
        folder.mkdir()
        with ExitStack() as opened:
            layout = BEFORE_2023 if old_columns else TODAY
            tables = {name: Table(opened, folder, layout[name], zipped) for name in layout}
            titles = [title for title, _ in SUBCLASSES.values()]
            tables["subclasses"].write({"id": list(SUBCLASSES), "title": titles})
            for first in range(0, patents, BLOCK):
                rows, counted = invent(plan, first)
                counts.update(counted)
                for name in tables.keys() & rows.keys():  # the old layout has no table of abstracts
                    tables[name].write(rows[name])
        files = sorted(path.name for path in folder.iterdir())
        write_record(folder / RECORD, {"params": params, "counts": counts}, files)
    return dict(counts)


def _refuse_foreign(out: Path) -> None:
    """Raise `InputError` when replacing the folder `out` would delete what this module did not write."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file: name a folder with --out")
    names = {path.name for path in out.iterdir()}
    files = {layout.split(":")[0] for layout in [*TODAY.values(), *BEFORE_2023.values()]}
    ours = {RECORD} | {f"{name}.tsv{end}" for name in files for end in ("", ".zip")}
    # Without its record even a file of our name may be PatentsView's own.
    if foreign := sorted(names - ours if RECORD in names else names):
        raise InputError(f"{out} holds {foreign[0]}, which is no part of a sample: choose a new or empty folder")


class Table:
    """One TSV file as PatentsView writes it: text in quotes, numbers bare, a header row; perhaps in a ZIP."""

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
        """Append rows given as field → list; the lists have one length, and quotes in them are doubled already."""
        columns = {**self.always, **rows}
        lines = (self.row % values for values in zip(*(columns[f] for f in self.fields), strict=False))
        self.file.write("".join(lines).encode())


@contextmanager
def _create(path: Path, zipped: bool) -> Iterator[IO[bytes]]:
    """Open `path` for writing, or its namesake inside `path`.zip, dated 1980 so that equal rows give equal bytes."""
    if not zipped:
        with path.open("wb") as file:
            yield file
        return
    member = zipfile.ZipInfo(path.name)
    member.compress_type = zipfile.ZIP_DEFLATED
    with (
        zipfile.ZipFile(f"{path}.zip", "w") as archive,
        archive.open(member, "w", force_zip64=True) as file,
    ):
        yield file
