"""From PatentsView's tables to triplets: the pipeline of patent_handler.ipynb without a notebook.

    python patent_handler.py --tables DIR                    # 10K triplets into data/triplets/10K
    python patent_handler.py --tables DIR --triplets FULL --csv
    python patent_handler.py --tables DIR --graph neo4j --import offline   # NEO4J_… from the environment

DIR holds g_patent, g_patent_abstract, g_us_patent_citation and g_cpc_current as .tsv or .tsv.zip, or a custom corpus
as patents.csv, citations.csv and classes.csv.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from patentcl.common.cli import InputError, check_ranges, option, parse_options, run_script
from patentcl.common.files import DATA
from patentcl.common.resources import Resources
from patentcl.graph.base import GRAPHS, open_graph
from patentcl.graph.neo4j_admin import import_command
from patentcl.graph.options import Neo4jOptions
from patentcl.pipeline import tables_to_triplets
from patentcl.tables.restructure import restructure
from patentcl.triplets.options import Mining
from patentcl.triplets.report import report
from patentcl.triplets.write import write_training_csv


@dataclass(frozen=True)
class Options:
    """What the script reads and writes."""

    _argument_group_name: ClassVar[str] = "data and graph"
    tables: Path | None = option(None, "the tables, zipped or not (default: those in --data)", metavar="DIR")
    data: Path = option(DATA, "folder for results", metavar="DIR")
    graph: str = option(
        "embedded",
        "embedded: Ladybug, needs no server; neo4j: see docs/neo4j.md; none: write import CSVs only",
        choices=(*GRAPHS, "none"),
    )
    keep_withdrawn: bool = option(False, "keep withdrawn patents")
    skip_bad_lines: bool = option(False, "skip lines of the tables that cannot be read, count them and copy them")
    seed: int = option(42, "seed of numbering, splits and draws")
    csv: bool = option(False, "also write triplet_training.csv with all texts (large)")
    overwrite: bool = option(False, "repeat steps whose results exist")

    def __post_init__(self) -> None:
        """Raise `InputError` for values out of range."""
        check_ranges(self, {})


def main(argv: Sequence[str] | None = None) -> None:
    """Restructure, import, mine, report."""
    options, neo4j, mining, resources = parse_options(__doc__, Options, Neo4jOptions, Mining, Resources, argv=argv)
    if neo4j.import_ != "none" and options.graph != "neo4j":
        raise InputError(f"--import {neo4j.import_} needs --graph neo4j")
    tables, csvs = options.tables or options.data, options.data / "graph"
    folder = options.data / "triplets" / mining.name
    given = {name: getattr(options, name) for name in ("seed", "keep_withdrawn", "skip_bad_lines", "overwrite")}
    if options.graph == "none":
        record = restructure(tables, csvs, resources=resources, **given)
        print_counts(record)
        print(f"import CSVs: {csvs}\nto import them into a stopped Neo4j server: {import_command(csvs, neo4j)}")
        return
    graph = open_graph(options.graph, options.data, resources, neo4j)
    given |= {"resources": resources, "restructured_is": print_counts}
    records = tables_to_triplets(tables, options.data, mining.name, mining, graph, **given)
    print(report(records["mining"]))
    if options.csv:
        csv = folder / "triplet_training.csv"
        print(f"triplets with texts: {csv} (rows: {write_training_csv(folder, csv, resources):,})")
    uses_neo4j = options.graph == "neo4j" or "NEO4J_HOME" in os.environ
    if neo4j.import_ != "offline":  # which prints the command itself
        command = import_command(csvs, neo4j) if uses_neo4j else "see docs/neo4j.md"
        print(f"to import the graph into a stopped Neo4j server: {command}")
    print(f"triplets: {folder}")


def print_counts(record: dict[str, Any]) -> None:
    """Print what the tables hold, and what was dropped and why."""
    for group in ("counts", "dropped"):
        for label, count in record[group].items():
            print(f"{label:50} {count:>12,}")


if __name__ == "__main__":
    run_script(main)
