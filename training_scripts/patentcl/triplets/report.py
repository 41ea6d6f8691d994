"""The record of a mining as lines for a reader."""

from typing import Any

from .options import KINDS

MOST_SECTIONS = 10  # that are worth a line each; other schemes than the CPC may have many


def report(record: dict[str, Any]) -> str:
    """The record of a mining as lines for a reader."""
    lines = [f"{label:46} {count:>12,}" for label, count in record["found"].items()]
    got, asked = record["negatives"]["got"], record["negatives"]["wanted"]
    lines.append("of the pairs within the limit, those with a negative that is")
    lines += [f"{f'  {kind}':46} {got[kind]:>12,}  (wanted {asked[kind]:,})" for kind in KINDS]
    lines += [f"{f'    {way}':46} {count:>12,}" for way, count in record["negatives"]["fell back"].items() if count]
    lines.append("of the chosen triplets")
    for kind in KINDS:
        lines.append(f"{f'  {kind}':46} {sum(counts[kind] for counts in record['kinds'].values()):>12,}")
    asked_for = record["params"]["positives"]
    for kind, count in record["positives"].items():
        if count or kind == asked_for:
            lines.append(f"{f'  positive: {kind}':46} {count:>12,}")
    if asked_for == "examiner" and not record.get("examiner's citations", 1):
        lines.append(
            "  the tables mark no citation of these anchors as the examiner's: --positives examiner is as cited"
        )
    lines.append(f"{'  distinct negatives':46} {record['distinct negatives']:>12,}")
    if record["params"]["filter_model"]:
        dropped = record["negatives"]["false negatives dropped"]
        lines.append(f"{'dropped: negative closer than the positive':46} {dropped:>12,}")
    for split, count in record["triplets"].items():
        queries = record["queries"].get(split)
        more = f"  ({queries:,} queries that cite {record['relevant'][split]:,})" if queries is not None else ""
        lines.append(f"{f'triplets {split}':46} {count:>12,}{more}")
    if record["params"]["split"] == "time":
        lines += _time_lines(record)
    sections = record["sections"]
    if len(sections["names"]) <= MOST_SECTIONS:
        lines.append("of the anchors of train")
        for name, corpus, train in zip(*(sections[k] for k in ("names", "corpus", "train")), strict=True):
            lines.append(f"{f'  section {name}':46} {train:>12.1%}  (of the corpus {corpus:.1%})")
    lines.append(f"{'patents to search':46} {record['corpus']:>12,}")
    return "\n".join(lines)


def _time_lines(record: dict[str, Any]) -> list[str]:
    """What a split by time means: it is one of families, each as new as its newest patent."""
    lines = ["families, each as new as its newest patent"]
    for split, (first, last) in record.get("dates of families", {}).items():
        lines.append(f"{f'  {split}':46} {first} to {last}")
    if older := record.get("older", 0):
        lines.append(
            f"{'  held-out patents older than the last of train':46} {older:>12,}  (with newer ones in their families)"
        )
    if record["undated"]:
        lines.append(f"{'patents without a date, taken for the oldest':46} {record['undated']:>12,}")
    return lines
