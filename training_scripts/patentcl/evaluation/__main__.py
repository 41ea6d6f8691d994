"""How good is a model, by one protocol for every row of the table, beside BM25, TF-IDF and the base model.

    python -m patentcl.evaluation --models minilm patentCL-10K        # the first is the base of the differences
    python -m patentcl.evaluation --check-leakage data/triplets/10K data/triplets/100K

Retrieval: a query is a held-out patent, relevant are the patents it cites; the query and its family, which repeats its
text, are taken out of the search, and on val all of test, which val queries cite as well. nDCG@10 with binary gains
(Järvelin and Kekäläinen 2002, doi 10.1145/582415.582418), Recall, and MRR within the first 1,000, by ir-measures. Parts
of the relevant patents are looked for apart, the others taken out: IN share a CPC class with the query, OUT share none;
"unseen" are held out as well, so that no training saw their text, that of "known" ones stands in a train triplet.

Triplet accuracy: share of triplets in which the anchor scores higher with the positive than with the negative, by kind.
Re-ranking: mean rank of the first of at most five cited patents among 25 others, drawn at random as for PaECTER (Ghosh
et al. 2024, https://arxiv.org/abs/2402.19411), or from the query's own CPC subclass, else class, section (hard).
CPC subclasses: those that more than half of the 8 nearest patents of other splits have, scored as for PatentSBERTa
(Bekamiri et al. 2021, https://arxiv.org/abs/2103.11933). v-measure: agreement of k-means of the held-out patents with
their CPC sections.
"""

import argparse
from pathlib import Path

import numpy as np

from ..common.cli import InputError, run_script
from ..common.cli import seed as seed_of
from ..common.files import DATA
from ..models.load import PATENTSBERTA
from ..triplets.dataset import load_dataset
from .compare import compare, with_base
from .held_out import evaluation_set
from .report import check_output


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", nargs="+", metavar="NAME|DIR", help="models; the first is the base (default: PatentSBERTa)")
    add("--data", type=Path, default=DATA, metavar="DIR", help="where patent_handler.py wrote (default: data/)")
    add("--triplets", default="10K", metavar="NAME", help="the triplets whose held-out patents are evaluated on")
    add("--split", choices=("test", "val"), default="test", help="which held-out patents")
    add("--corpus-sample", type=int, default=0, metavar="N", help="search among about N patents (0: among all)")
    add("--max-length", type=int, default=0, help="tokens of a text that are read (0: as many as each model can)")
    add("--output", type=Path, metavar="DIR", help="where the tables go (default: <data>/evaluation/<triplets>)")
    add("--seed", type=seed_of, default=42, help="samples, candidates and bootstrap")
    add(
        "--check-leakage",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="only print what val and test of these triplets share with train of each, and test with val of each",
    )
    return parser.parse_args()


def main() -> None:
    """Evaluate models, or check triplets for leaks."""
    args = parse_arguments()
    if args.check_leakage:
        from ..triplets.dataset import load_dataset
        from .leakage import overlaps, report

        folders = {str(folder): load_dataset(folder) for folder in args.check_leakage}
        shared = [o for a in folders for b in folders for o in overlaps(folders[a], folders[b], (a, b))]
        print(report(shared))
        raise SystemExit(1 if any(row.leaks for row in shared) else 0)
    evaluate_models(args)


def evaluate_models(args: argparse.Namespace) -> None:
    """Check all that was asked for, evaluate, print the table, and only then write it."""

    if args.corpus_sample < 0:
        raise InputError(f"--corpus-sample {args.corpus_sample} must be 0 (all patents) or a number above")
    folder = args.data / "triplets" / args.triplets
    data = load_dataset(folder)
    on = evaluation_set(data, args.split, args.corpus_sample, args.seed)
    if not len(on.pairs) and not len(on.triplets):
        raise InputError(f"the {args.split} split of {args.triplets} holds nothing: mine with a larger --{args.split}")
    models = with_base(args.models or [PATENTSBERTA])
    output = args.output or args.data / "evaluation" / folder.name
    check_output(output, args.split)
    report = compare(models, on, args.data / "embeddings", args.max_length, args.seed)
    queries, patents = len(np.unique(on.pairs[:, 0])), int(on.corpus.sum())
    print(
        f"{queries:,} queries of the {args.split} split, {patents:,} patents to search, {len(on.triplets):,} triplets"
    )
    print(report.to_text())
    report.save(output, args.split, triplets=folder)
    print(f"tables: {output / args.split}.csv, {output / args.split}.md")


if __name__ == "__main__":
    run_script(main)
