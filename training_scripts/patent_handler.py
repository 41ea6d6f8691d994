"""From PatentsView's tables to triplets: the road of patent_handler.ipynb without a notebook.

    python patent_handler.py --tables DIR                    # 10K triplets into data/triplets/10K
    python patent_handler.py --tables DIR --triplets FULL --csv

DIR holds g_patent, g_patent_abstract, g_us_patent_citation and g_cpc_current as .tsv or .tsv.zip, or a corpus of your
own as patents.csv, citations.csv and classes.csv.
"""

import argparse
from pathlib import Path

from patentcl.files import DATA, run_script, seed
from patentcl.mining import parse_shares, parse_size
from patentcl.road import tables_to_triplets
from patentcl.triplets import Mining, report, write_training_csv


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("places").add_argument
    add("--tables", type=Path, metavar="DIR", help="the tables, zipped or not (default: where --data is)")
    add("--data", type=Path, default=DATA, metavar="DIR", help="where results go (default: data/)")
    add("--overwrite", action="store_true", help="repeat steps whose results are there")
    add = parser.add_argument_group("graph").add_argument
    add("--graph", choices=("embedded",), default="embedded", help="embedded: Ladybug, needs no server")
    add("--keep-withdrawn", action="store_true", help="keep withdrawn patents, which are left out otherwise")
    add("--memory", default="4GB", help="limit for DuckDB and for the graph's buffers")
    add("--seed", type=seed, default=42, help="numbering, splits, draws")
    add = parser.add_argument_group("triplets").add_argument
    add("--triplets", default="10K", metavar="SIZE", help="train triplets: 10K, 100K, 1M, FULL (all) or a number")
    add("--per-anchor", type=int, default=3, help="most positives of one anchor, used when first ones run out")
    add(
        "--negatives", default="citation=1,sibling=1,random=1", metavar="SHARES", help="shares of the kinds of negative"
    )
    add("--val", type=float, default=0.1, help="share of patents held out for val")
    add("--test", type=float, default=0.2, help="share of patents held out for test")
    add("--csv", action="store_true", help="also write triplet_training.csv with all texts (large)")
    return parser.parse_args()


def main() -> None:
    """Restructure, import, mine, report."""
    args = parse_arguments()
    name, triplets = parse_size(args.triplets)
    mining = Mining(triplets, args.per_anchor, parse_shares(args.negatives), args.val, args.test)
    records = tables_to_triplets(
        args.tables or args.data, args.data, name, mining,
        args.graph, args.seed, args.keep_withdrawn, args.memory, args.overwrite,
    )  # fmt: skip
    for group in ("counts", "dropped"):
        for label, count in records["restructure"][group].items():
            print(f"{label:50} {count:>12,}")
    print(report(records["mining"]))
    folder = args.data / "triplets" / name
    made = records["mining"]["triplets"]["train"]
    if triplets and made < triplets:
        print(f"asked for {triplets:,} train triplets; the tables give {made:,}, and all of them are taken")
    if args.csv:
        rows = write_training_csv(folder, folder / "triplet_training.csv")
        print(f"wrote {rows:,} rows to {folder / 'triplet_training.csv'}")
    print(f"triplets: {folder}")


if __name__ == "__main__":
    run_script(main)
