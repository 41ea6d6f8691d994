"""Download PatentsView's tables from the USPTO's Open Data Portal: about 5 GB, checked, resumed when run again.

    export USPTO_API_KEY=…                                        # from data.uspto.gov/myodp
    python -m patentcl.download --out DIR
    python -m patentcl.download --out DIR --base-url URL|DIR      # from a mirror or a folder, without a key

Each file is a ZIP that the other commands read as it is. manifest.json holds release, size and SHA-256 of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .common.cli import option, parse_options, run_script
from .common.files import DATA
from .tables.download import NAMES, download_tables


@dataclass(frozen=True)
class Options:
    """The command line."""

    out: Path = option(DATA, "folder to fill", metavar="DIR")
    tables: list[str] | None = option(None, f"tables (default: {' '.join(NAMES)})", metavar="NAME")
    base_url: str = option("", "mirror or folder that has the files instead of the portal", metavar="URL|DIR")


def main(argv: Sequence[str] | None = None) -> None:
    """Download, and print what is there."""
    (options,) = parse_options(__doc__, Options, argv=argv)
    manifest = download_tables(options.out, options.tables or (), options.base_url)
    for name, entry in manifest["tables"].items():
        print(f"{options.out / name}: {entry['size']:,} bytes, release {entry['release'] or 'unknown'}")


if __name__ == "__main__":
    run_script(main)
