"""From PatentsView's tables to triplets: the road of patent_handler.ipynb without a notebook.

    python patent_handler.py --tables DIR                    # 10K triplets into data/triplets/10K
    python patent_handler.py --tables DIR --triplets FULL --csv
    python patent_handler.py --tables DIR --graph neo4j --import offline   # NEO4J_… from the environment

DIR holds g_patent, g_patent_abstract, g_us_patent_citation and g_cpc_current as .tsv or .tsv.zip, or a corpus of your
own as patents.csv, citations.csv and classes.csv.
"""

import argparse
from pathlib import Path
from typing import Any

from patentcl.common.cli import InputError, run_script, seed
from patentcl.common.files import DATA
from patentcl.graph.base import GRAPHS, Neo4jOptions, open_graph
from patentcl.graph.neo4j_admin import import_command
from patentcl.pipeline import tables_to_triplets
from patentcl.tables.restructure import restructure
from patentcl.triplets.options import POSITIVES, WAYS_TO_SPLIT, Mining, check_mining, parse_shares, parse_size
from patentcl.triplets.report import report
from patentcl.triplets.write import write_training_csv


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("places").add_argument
    add("--tables", type=Path, metavar="DIR", help="the tables, zipped or not (default: where --data is)")
    add("--data", type=Path, default=DATA, metavar="DIR", help="where results go (default: data/)")
    add("--overwrite", action="store_true", help="repeat steps whose results are there")
    add = parser.add_argument_group("graph").add_argument
    add(
        "--graph",
        choices=(*GRAPHS, "none"),
        default="embedded",
        help="embedded: Ladybug, needs no server; neo4j: see README; none: write the import CSVs and stop",
    )
    add("--keep-withdrawn", action="store_true", help="keep withdrawn patents, which are left out otherwise")
    add("--memory", default="4GB", help="limit for DuckDB and for the graph's buffers")
    add("--seed", type=seed, default=42, help="numbering, splits, draws")
    add = parser.add_argument_group("Neo4j").add_argument
    add(
        "--import",
        dest="import_",
        choices=("offline", "online"),
        default="",
        help="offline: neo4j-admin of NEO4J_HOME; online: over Bolt (default: the graph is in the server)",
    )
    add("--database", default="", metavar="NAME", help="database (default: NEO4J_DATABASE, else neo4j)")
    add("--sessions", type=int, default=Neo4jOptions.sessions, help="queries at once (0: one a core, 8 at most)")
    add("--heap", default=Neo4jOptions.heap, help="heap of the offline import")
    add("--off-heap", default=Neo4jOptions.off_heap, help="other memory of the offline import")
    add = parser.add_argument_group("triplets").add_argument
    add("--triplets", default="10K", metavar="SIZE", help="train triplets: 10K, 100K, 1M, FULL (all) or a number")
    add(
        "--positives",
        choices=POSITIVES,
        default="cited",
        help="cited: patents that the anchor cites; examiner: the same, those that the examiner cited first; coupled: "
        "after the cited ones, patents that cite the same ones",
    )
    add(
        "--coupled",
        type=int,
        metavar="K",
        help="with --positives coupled: how many of the same patents both must cite, of those that at most "
        f"{Mining.hub} patents cite (default: {Mining.coupled})",
    )
    add("--per-anchor", type=int, default=3, help="most positives of one anchor, used when first ones run out")
    add(
        "--negatives", default="citation=1,sibling=1,random=1", metavar="SHARES", help="shares of the kinds of negative"
    )
    add(
        "--filter-model",
        default="",
        metavar="NAME|DIR",
        help="drop train triplets whose negative this model finds closer than the positive (default: keep all)",
    )
    add("--split", choices=WAYS_TO_SPLIT, default="random", help="hold out random families, or the newest")
    add("--val", type=float, default=0.1, help="share of patents held out for val")
    add("--test", type=float, default=0.2, help="share of patents held out for test")
    add("--corpus", type=int, default=Mining.corpus, help="patents that an evaluation searches, seeded (0: all)")
    add("--csv", action="store_true", help="also write triplet_training.csv with all texts (large)")
    return parser.parse_args()


def main() -> None:
    """Restructure, import, mine, report."""
    args = parse_arguments()
    name, triplets = parse_size(args.triplets)
    if args.coupled is not None and args.positives != "coupled":
        raise InputError(f"--coupled {args.coupled} has no meaning without --positives coupled: add that")
    mining = Mining(
        triplets=triplets,
        per_anchor=args.per_anchor,
        negatives=parse_shares(args.negatives),
        val=args.val,
        test=args.test,
        positives=args.positives,
        coupled=Mining.coupled if args.coupled is None else args.coupled,
        split=args.split,
        filter_model=args.filter_model,
        corpus=args.corpus,
    )
    if args.import_ and args.graph != "neo4j":
        raise InputError("--import is for Neo4j: add --graph neo4j")
    check_mining(mining)
    tables, numbering = args.tables or args.data, (args.seed, args.keep_withdrawn, args.memory, args.overwrite)
    command = import_command(args.data / "graph", args.database, args.heap, args.off_heap)
    if args.graph == "none":
        restructured = restructure(tables, args.data / "graph", *numbering)
        print_counts(restructured)
        print(f"import CSVs: {args.data / 'graph'}\nto import them into a stopped Neo4j server by hand: {command}")
        return
    options = Neo4jOptions(args.import_, args.sessions, args.database, args.heap, args.off_heap)
    graph = open_graph(args.graph, args.data, args.memory, options)
    records = tables_to_triplets(tables, args.data, name, mining, graph, *numbering)
    print_counts(records["restructure"])
    print(report(records["mining"]))
    folder = args.data / "triplets" / name
    made = records["mining"]["triplets"]["train"]
    if triplets and made < triplets:
        more = "" if mining.positives == "coupled" else "; --positives coupled may give more"
        print(f"asked for {triplets:,} train triplets; the tables give {made:,}, and all of them are taken{more}")
    if args.csv:
        rows = write_training_csv(folder, folder / "triplet_training.csv")
        print(f"wrote {rows:,} rows to {folder / 'triplet_training.csv'}")
    if args.import_ != "offline":  # which prints the command itself
        print(f"to import the graph into a stopped Neo4j server by hand: {command}")
    print(f"triplets: {folder}")


def print_counts(record: dict[str, Any]) -> None:
    """What was found in the tables, what was dropped and why."""
    for group in ("counts", "dropped"):
        for label, count in record[group].items():
            print(f"{label:50} {count:>12,}")


if __name__ == "__main__":
    run_script(main)
