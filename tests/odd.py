"""What hypothesis draws: odd texts, ids and values, and damaged files; and how a script ends on them.

CI tries the same few examples each time; PATENTCL_FUZZ=1000 tries so many random ones of each test.
"""

import copy
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from patentcl.common.cli import run_script

FUZZ = int(os.environ.get("PATENTCL_FUZZ", "0"))

# fmt: off
SNIPPETS = [
    '"', '""', "'", "\\", "\\N", "\t", "\n", "\r", "\r\n", ",", ";", "|", "\x1f", "\x7f", "\ufeff", " ",
    "\u00a0", "\u2028", "NULL", "nan", "None", "N/A", "1e5", "0x1F", "-0", "=1+1", "#", "$lo", "{{x}}", "%s", "[SEP]",
    "\x01null\x01",
    "&amp;", "\\new\\table", "<script>alert(1)</script>", "') DETACH DELETE n //", "'; DROP TABLE kept; --", "ß", "İ",
    "e\u0301", "\U0010ffff", "\u202eright to left", "\u05e9\u05dc\u05d5\u05dd", "\u6c34\u8655\u7406",
    "\U0001f469\u200d\U0001f52c",
]
ODD_VALUES = [None, True, -1, 0, 1.5, 10**30, float("inf"), float("nan"), "", "x", "../x", [], [1], {}, {"a": 1}]
ODD_BYTES = [
    b"", b'"', b'""', b"\0", b"\r", b"\n", b"\t", b",", b";", b"\\", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"PK\x03\x04",
    b"<html>", b'\n"', b'"\n', b"-1", b"1e400", b"9" * 40, b"NaN", b"a" * 70_000, b"\n" * 3_000,
]
ODD_WORDS = [
    "", " ", "-1", "0", "1", "1.5", "nan", "inf", "-inf", "1e400", "9" * 40, "x", "é", "\u0663", "\U0001f469", "a=b",
    ",", "None", "true", "*", "a\nb", "\udcff", "a\0b", "/dev/null", "/", ".", "..", "/proc/self/mem", "a" * 300, "--",
]
# fmt: on


def examples(few: int) -> settings:
    """Settings that try `few` fixed examples, or as many random ones as PATENTCL_FUZZ says."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(
        max_examples=FUZZ or few, derandomize=not FUZZ, deadline=None, database=None, suppress_health_check=checks
    )


def texts(without: str = "\0") -> st.SearchStrategy[str]:
    """Any text that UTF-8 can write, without some characters."""
    some = st.sampled_from([text for text in SNIPPETS if not set(text) & set(without)])
    anything = st.text(st.characters(codec="utf-8", exclude_characters=without), max_size=12)
    return st.lists(some | anything, max_size=4).map("".join)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole`, with a few of its places cut out, repeated, or replaced by odd bytes."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(whole)))
        end = start + draw(st.sampled_from([0, 1, 7, 100, len(whole)]))
        new = draw(st.sampled_from([*ODD_BYTES, whole[start:end] * 2]) | st.binary(max_size=4))
        whole = whole[:start] + new + whole[end:]
    return whole


@st.composite
def damaged_json(draw: st.DrawFn, whole: bytes) -> bytes:
    """JSON with one of its values removed or replaced by an odd one; or with damaged bytes."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged(whole))
    node = [copy.deepcopy(json.loads(whole))]
    place, parent = 0, node
    while isinstance(parent[place], dict | list) and parent[place] and draw(st.integers(0, 3)):
        parent = parent[place]
        place = draw(st.sampled_from([*parent] if isinstance(parent, dict) else range(len(parent))))
    if draw(st.booleans()):
        parent[place] = draw(st.sampled_from(ODD_VALUES))
    else:
        del parent[place]
    return json.dumps(node[0] if node else {}).encode()


def sentence(work: Callable[[], object], *words: str) -> str:
    """Run `work` as a script runs: return "" if it ends well, or its sentence if it ends with exit code 2.

    Any other exception passes through. The sentence has one line, and holds all of the `words`.
    """
    with (
        TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as shown,
        mock.patch.object(sys, "stderr", shown),
        mock.patch.object(sys, "stdout", shown),
    ):
        try:
            run_script(work)
            return ""
        except SystemExit as ended:
            assert ended.code == 2, ended.code
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        shown.seek(0)
        said = shown.read().rstrip("\n").split("error: ", 1)
    assert len(said) == 2, said
    assert "usage: " in said[0] or (said[1].isprintable() and 20 < len(said[1]) < 1_500), said[1]
    assert all(word in said[1] for word in words), said[1]
    return said[1]


def write(path: Path, content: bytes) -> Path:
    """Write a file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def kept(folder: Path) -> dict[str, Any]:
    """All files below `folder` and their bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
