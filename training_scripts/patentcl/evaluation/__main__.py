"""Evaluate models on held-out patents, or check triplets for leakage.

    python -m patentcl.evaluation --models minilm patentCL-10K        # the first is the base of the differences
    python -m patentcl.evaluation --models patentCL-10K --against other/triplets/10K     # patents of other tables
    python -m patentcl.evaluation --check-leakage data/triplets/10K data/triplets/100K

A query is a held-out patent; the patents that it cites are relevant. Its family is removed from the search, and so are
all test patents with --split val. Some metrics count a part of the relevant patents, with the others removed: IN share
a CPC class with the query, OUT share none; "unseen" ones are held out as well, so no training saw their text; "known"
ones occur in a train triplet. docs/evaluation.md describes the protocol and every metric.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import pandas as pd

from ..common.cli import InputError, check_ranges, option, parse_options, run_script
from ..common.files import DATA, locked
from ..models.bases import Readout, parse_dimensions
from ..models.load import PATENTSBERTA
from ..triplets.dataset import load_dataset
from .card import add_to_cards
from .compare import compare, with_base
from .held_out import held_out_set
from .leakage import leaking, overlaps, trained_ids
from .other_corpus import About, graph_of, other_corpus
from .report import check_output

ENOUGH = 300  # queries; with fewer, intervals are as wide as the differences between models


@dataclass(frozen=True)
class Options(Readout):
    """What to evaluate, on what, and where the tables go."""

    models: list[str] | None = option(None, f"models; the first is the base (default: {PATENTSBERTA})", metavar="NAME")
    data: Path = option(DATA, "folder that patent_handler.py wrote to", metavar="DIR")
    triplets: str = option("10K", "triplets whose held-out patents to evaluate on", metavar="NAME")
    against: Path | None = option(
        None, "evaluate on all citing patents of other tables: their data folder, or triplets in it", metavar="DIR"
    )
    split: Literal["test", "val"] = option("test", "held-out patents to evaluate on")
    corpus_sample: int = option(0, "search among about N patents (0: all)", metavar="N")
    max_length: int = option(0, "truncate texts to N tokens (0: each model's limit)", metavar="N")
    dimensions: str | None = option(None, "also evaluate the first N dimensions of the vectors", metavar="N,N,…")
    output: Path | None = option(None, "folder for the tables (default: <data>/evaluation/<triplets>)", metavar="DIR")
    seed: int = option(42, "seed of samples, candidates and bootstrap")
    check_leakage: list[Path] | None = option(None, "only count what these triplets' splits share", metavar="DIR")

    def __post_init__(self) -> None:
        """Raise `InputError` for values out of range."""
        check_ranges(self, {"corpus_sample": "[0, inf)"})
        if self.against and self.split != "test":
            raise InputError(f"--split {self.split}: --against takes all citing patents. Leave out one of the two.")


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate models, or check triplets for leakage."""
    (options,) = parse_options(__doc__, Options, argv=argv)
    if options.check_leakage:
        check_leakage(options.check_leakage)
    else:
        evaluate(options)


def check_leakage(folders: Sequence[Path]) -> None:
    """Print the overlaps of each folder with each; exit with code 1 if anything leaks."""
    data = {str(folder): load_dataset(folder) for folder in folders}
    shared = pd.concat([overlaps(data[a], data[b], (a, b)) for a in data for b in data], ignore_index=True)
    leaks = int(leaking(shared).sum())
    print(shared.to_string(index=False), f"leaks: {leaks}" if leaks else "no leak", sep="\n")
    if leaks:
        raise SystemExit(1)


def evaluate(options: Options) -> None:
    """Check everything the user gave, evaluate, print the tables, and only then write them."""
    cuts = parse_dimensions("dimensions", options.dimensions)
    folder, name, about = options.data / "triplets" / options.triplets, str(options.split), About()
    find_models = partial(with_base, options.models or [PATENTSBERTA], options)
    if options.against:
        folder, name, models = graph_of(options.against)[0].resolve().parent, "against", find_models()
        trained = chain.from_iterable(map(trained_ids, models))
        data, about = other_corpus(options.against, trained, options.data / "evaluation" / name, options.seed)
    else:
        data, models = load_dataset(folder), find_models()
    held_out = held_out_set(data, options.split, options.corpus_sample, options.seed)
    if not options.against and not len(held_out.pairs) and not len(held_out.triplets):
        raise InputError(f"the {name} split of {folder} is empty. Mine with a larger --{name}.")
    if not options.against and len(held_out.queries) < ENOUGH:
        about["for more queries"] = f"mine with a larger --{name}, or evaluate on other tables with --against"
    output = options.output or options.data / "evaluation" / folder.name
    check_output(output, name)
    with locked(output / name):
        report = compare(models, held_out, options.data / "embeddings", options.max_length, options.seed, cuts)
        report.setting |= about
        print(report.to_markdown())
        report.save(output, name, **{"corpus" if options.against else "triplets": folder})
    print(f"tables: {output / name}.csv, {output / name}.md")
    if name != "val" and not options.corpus_sample:
        add_to_cards(models, report, f"{folder.name}-{name}")


if __name__ == "__main__":
    run_script(main)
