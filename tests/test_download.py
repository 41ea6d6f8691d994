"""Tables from the portal, a mirror or a folder arrive whole, or a sentence says why not; the key stays secret."""

import hashlib
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from patentcl import download as command
from patentcl.common import files, resources
from patentcl.common.cli import InputError, Interrupted
from patentcl.sample.write import write_sample
from patentcl.tables import download
from patentcl.tables.download import NAMES, download_tables
from patentcl.tables.restructure import restructure
from portal import KEY, SIGNATURE, Handler, Play, body, cut, playing, stall, status

PATENT = "g_patent.tsv.zip"


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of 60 sample patents as ZIPs."""
    folder = tmp_path_factory.mktemp("zipped")
    write_sample(folder, patents=60, zipped=True)
    return folder


@pytest.fixture
def portal(zipped: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """The portal, the key that it accepts, and clocks that run fast."""
    with playing(zipped) as play:
        monkeypatch.setattr(download, "API", play.urls["api"])
        monkeypatch.setenv("USPTO_API_KEY", KEY)
        monkeypatch.setattr(download, "TIMEOUT", (5, 0.5))
        monkeypatch.setattr(download, "CHUNK", 256)
        monkeypatch.setattr(download, "BACKOFF", 0.001)
        yield play


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time."""
    waited: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waited.append)
    return waited


def one(out: Path) -> dict[str, Any]:
    """Download one table; the manifest's entry."""
    entry: dict[str, Any] = download_tables(out, ["g_patent"])["tables"][PATENT]
    return entry


def offered(play: Play) -> dict[str, bytes]:
    return {name: content for name, content in play.files.items() if name.removesuffix(".tsv.zip") in NAMES}


def zip_of(size: int) -> bytes:
    """A ZIP of so many bytes: one member, not compressed."""

    def archive(length: int) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as zipped:
            zipped.writestr("g_patent.tsv", b"n" * length)
        return out.getvalue()

    return archive(size - len(archive(0)))


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(4) + content[middle + 4 :]


def visible(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("[!.]*") if path.suffix == ".zip"}


@pytest.mark.parametrize("answer", ["zip", "json", "redirect"])
def test_the_tables_are_downloaded_once_and_recorded(portal: Play, tmp_path: Path, answer: str) -> None:
    portal.answer = answer

    manifest = download_tables(tmp_path)

    assert visible(tmp_path) == offered(portal)
    for name, content in offered(portal).items():
        sha = hashlib.sha256(content).hexdigest()
        assert manifest["tables"][name] == {"release": portal.release, "size": len(content), "sha256": sha}
    assert [asked.where for asked in portal.asked if asked.where != "signed"] == [
        "catalogue",
        *["file"] * len(offered(portal)),
    ]

    portal.asked.clear()
    assert download_tables(tmp_path) == manifest
    assert [asked.where for asked in portal.asked] == ["catalogue"]


def test_what_was_downloaded_can_be_restructured(
    portal: Play, zipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["--out", str(tmp_path / "tables")])

    assert PATENT in capsys.readouterr().out
    counts = restructure(tmp_path / "tables", tmp_path / "graph")["counts"]
    assert counts == restructure(zipped, tmp_path / "same")["counts"] and counts["citations"] > 0


@pytest.mark.parametrize("fault", [cut, stall])
def test_a_broken_transfer_resumes_at_the_presigned_address(
    portal: Play, tmp_path: Path, fault: Callable[[int], Callable[[Handler], bool]]
) -> None:
    portal.faults["signed"] = [fault(1000)]

    one(tmp_path)

    assert visible(tmp_path) == {PATENT: portal.files[PATENT]}
    first, second = portal.of("signed")
    assert "Range" not in first.headers
    assert second.headers["Range"] == "bytes=768-" and second.headers["If-Range"].startswith('"')
    assert len(portal.of("file")) == 1  # so it was counted once


def test_an_address_that_expired_is_asked_for_anew(
    portal: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal.faults["signed"] = [cut(1000), status(403)]
    one(tmp_path)
    assert [asked.where for asked in portal.asked] == ["catalogue", "file", "signed", "signed", "file", "signed"]

    monkeypatch.setattr(download, "PRESIGNED", -1.0)  # known to be too old: not tried
    portal.faults["signed"] = [cut(1000)]
    portal.asked.clear()
    one(tmp_path / "again")
    assert [asked.where for asked in portal.asked] == ["catalogue", "file", "signed", "file", "signed"]
    assert visible(tmp_path / "again") == {PATENT: portal.files[PATENT]}


def test_a_server_without_ranges_starts_again(portal: Play, tmp_path: Path) -> None:
    portal.has_range = False
    portal.faults["signed"] = [cut(1000)]

    one(tmp_path)

    assert visible(tmp_path) == {PATENT: portal.files[PATENT]}


def test_the_portal_is_never_asked_for_a_range_of_its_json(
    portal: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PRESIGNED", -1.0)
    portal.faults["signed"] = [cut(1000)]

    one(tmp_path)

    assert ["Range" in asked.headers for asked in portal.of("file", "signed")] == [False, False, False, True]
    assert visible(tmp_path) == {PATENT: portal.files[PATENT]}


def test_an_answer_without_a_length_that_ends_early_is_resumed(portal: Play, tmp_path: Path) -> None:
    def start(handler: Handler) -> bool:
        handler.send(200, portal.files[PATENT][:512], Content_Length=None)
        return True

    portal.faults["signed"] = [start]

    one(tmp_path)

    assert portal.of("signed")[1].headers["Range"] == "bytes=512-"
    assert visible(tmp_path) == {PATENT: portal.files[PATENT]}


@pytest.mark.parametrize("span", ["bytes 768-900/901", "bytes 0-900/901", ""])
def test_a_range_that_was_not_asked_for_is_not_appended(portal: Play, tmp_path: Path, span: str) -> None:
    def other(handler: Handler) -> bool:
        handler.send(206, b"x" * 133, Content_Range=span)
        return True

    portal.faults["signed"] = [cut(1000), other]

    with pytest.raises(InputError, match=PATENT):
        one(tmp_path)

    assert [path.stat().st_size for path in tmp_path.glob("*.partial")] == [768]


def test_two_releases_are_never_spliced(portal: Play, tmp_path: Path) -> None:
    old = portal.files[PATENT]
    new = zip_of(len(old))

    def replace() -> None:
        portal.files[PATENT] = new

    portal.faults["signed"] = [cut(1000, replace)]  # a new release between two attempts

    one(tmp_path / "one")
    assert visible(tmp_path / "one") == {PATENT: new}

    portal.files[PATENT] = old
    portal.faults["signed"] = [cut(1000)] + [status(503)] * 5  # a new release between two runs
    with pytest.raises(InputError, match=PATENT):
        one(tmp_path / "two")
    assert [path.stat().st_size for path in (tmp_path / "two").glob("*.partial")] == [768]
    portal.files[PATENT], portal.release = new, "2026-10-15"
    portal.asked.clear()
    assert one(tmp_path / "two")["release"] == "2026-10-15"
    assert visible(tmp_path / "two") == {PATENT: new} and not list((tmp_path / "two").glob("*.partial"))
    assert "Range" not in portal.of("signed")[0].headers


@pytest.mark.parametrize(
    ("place", "fault", "named"),
    [
        ("catalogue", status(401), "USPTO_API_KEY"),
        ("catalogue", status(403), "USPTO_API_KEY"),
        ("catalogue", status(404), "404"),
        ("catalogue", body(b"<!DOCTYPE html><html>Sign in</html>"), "text/html"),
        ("catalogue", body(b'{"products": []}'), "application/json"),
        ("catalogue", body(b'{"fileName": "g_patent.tsv.zip", "bytes": 3}'), "application/json"),
        ("catalogue", body(b"\xff"), "PVGPATDIS"),
        ("catalogue", body(b'{"fileName": "g_patent.tsv.zip", "fileSize": Infinity}'), "application/json"),
        ("catalogue", body(b"[" * 100_000), "PVGPATDIS"),
        ("file", status(429), "429.* 20 "),
        ("file", status(403), "USPTO_API_KEY"),
        ("file", body(b"\n<html>Sign in</html>"), "text/html"),
        ("file", body(b'{"message": "Busy"}'), "application/json"),
        ("file", body(b"Busy"), PATENT),
        ("file", status(302, Location="/api/files/again"), "redirects"),
        ("signed", status(429), "429.* 20 "),
        ("signed", status(400), "400"),
        ("signed", body(b"PK is not all"), PATENT),
    ],
)
def test_what_waiting_does_not_mend_is_said_and_not_asked_again(
    portal: Play, tmp_path: Path, waits: list[float], place: str, fault: Callable[[Handler], bool], named: str
) -> None:
    portal.faults[place] = [fault] * 9

    with pytest.raises(InputError, match=named) as raised:
        one(tmp_path)

    assert not waits and len(portal.of("catalogue")) == 1 and len(portal.of("signed")) <= 1
    assert not visible(tmp_path) and not list(tmp_path.glob("*.partial"))
    assert KEY not in str(raised.value) and SIGNATURE not in str(raised.value)


@pytest.mark.parametrize("place", ["catalogue", "file", "signed"])
@pytest.mark.parametrize("number", [408, 500, 503])
def test_what_may_pass_is_tried_again(
    portal: Play, tmp_path: Path, waits: list[float], place: str, number: int
) -> None:
    portal.faults[place] = [status(number, Retry_After="7"), cut(0) if place == "signed" else status(number)]

    one(tmp_path)

    assert waits == [7, pytest.approx(2 * download.BACKOFF)]
    assert visible(tmp_path) == {PATENT: portal.files[PATENT]}


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("signed", status(503, Retry_After="soon")),
        ("signed", status(302, Location="http://[::1")),
        ("signed", status(302, Location="http://host:99999/")),
        ("file", status(302, Location="file:///etc/passwd")),
        ("file", body(b'{"url": "http://[host"}')),
        ("file", body(b'{"url": "http://host\\q/"}')),
        ("catalogue", body('{"fileName": "g_patent.tsv.zip", "fileSize": "²"}'.encode())),
        ("catalogue", body(b'{"fileName": "g_patent.tsv.zip", "fileSize": ' + b"9" * 5000 + b"}")),
    ],
)
def test_no_answer_gives_a_traceback(
    portal: Play, tmp_path: Path, place: str, fault: Callable[[Handler], bool]
) -> None:
    portal.faults[place] = [fault] * 9

    with pytest.raises(InputError):
        one(tmp_path)

    assert not visible(tmp_path) and len(portal.of("file")) <= download.ATTEMPTS


def test_attempts_are_few_as_they_count(portal: Play, tmp_path: Path, waits: list[float]) -> None:
    portal.faults["file"] = [status(500)] * 99
    with pytest.raises(InputError, match=f"{PATENT}.*500"):
        one(tmp_path)
    assert len(portal.of("file")) == download.ATTEMPTS and len(waits) == download.ATTEMPTS - 1

    portal.faults["file"] = [status(503, Retry_After="86400")]
    with pytest.raises(InputError, match="503"):
        one(tmp_path)
    assert len(portal.of("file")) == download.ATTEMPTS + 1


def test_nobody_listens(portal: Play, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "API", "http://127.0.0.1:9/api")

    with pytest.raises(InputError, match=r"127\.0\.0\.1.*ConnectionError"):
        one(tmp_path)

    assert len(waits) == download.ATTEMPTS - 1


def test_a_table_that_is_not_offered(portal: Play, tmp_path: Path) -> None:
    download_tables(tmp_path)  # the sample has no g_cpc_title, and the pipeline can do without
    assert visible(tmp_path) == offered(portal)

    del portal.files["g_cpc_current.tsv.zip"]
    with pytest.raises(InputError, match="g_cpc_current"):
        download_tables(tmp_path / "other")
    with pytest.raises(InputError, match="g_cpc_title"):
        download_tables(tmp_path, ["g_patent", "g_cpc_title"])
    with pytest.raises(InputError, match="g_inventor"):
        download_tables(tmp_path, ["g_inventor"])
    assert not (tmp_path / "other" / PATENT).exists()


def test_a_size_that_is_not_the_listed_one_is_refused_before(portal: Play, tmp_path: Path) -> None:
    portal.catalogue = json.loads(json.dumps(portal.bag()).replace(f": {len(portal.files[PATENT])}", ": 12345678"))

    with pytest.raises(InputError, match="12,345,678"):
        one(tmp_path)

    assert not list(tmp_path.glob("*.partial"))


def test_a_damaged_file_is_removed(portal: Play, tmp_path: Path) -> None:
    good = portal.files[PATENT]
    portal.files[PATENT] = damaged(good)
    with pytest.raises(InputError, match="CRC"):
        one(tmp_path)
    assert not visible(tmp_path) and not list(tmp_path.glob("*.partial"))

    portal.files[PATENT] = good
    one(tmp_path)
    assert visible(tmp_path) == {PATENT: good}


def test_files_from_elsewhere_are_taken_over_if_they_are_whole(portal: Play, tmp_path: Path) -> None:
    (tmp_path / PATENT).write_bytes(portal.files[PATENT])
    (tmp_path / "manifest.json").write_text("{")
    one(tmp_path)
    assert not portal.of("file")

    other = tmp_path / "other"
    other.mkdir()
    for content in (damaged(portal.files[PATENT]), zip_of(1000)):
        for out in (tmp_path, other):  # where the manifest knows the file, and where there is none
            portal.asked.clear()
            (out / PATENT).write_bytes(content)
            one(out)
            assert len(portal.of("file")) == 1 and visible(out) == {PATENT: portal.files[PATENT]}
        (other / "manifest.json").unlink()


def test_the_key_goes_to_the_portal_only_and_is_written_nowhere(
    portal: Play,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    for answer in ("zip", "json", "redirect"):
        portal.answer = answer
        portal.faults = {"file": [status(500)], "signed": [cut(1000), status(403)]}
        one(tmp_path / answer)
    portal.catalogue = json.loads(json.dumps(portal.bag()).replace(portal.urls["api"], portal.urls["signed"]))
    one(tmp_path / "elsewhere")
    assert not portal.of("mirror")  # the address in the catalogue is not the portal's
    portal.is_key = "another".__eq__
    with pytest.raises(InputError) as refused:
        one(tmp_path)
    for key in ("", "a\nb-secret", "b-secret\u20ac"):
        monkeypatch.setenv("USPTO_API_KEY", key)
        with pytest.raises(InputError, match="USPTO_API_KEY") as raised:
            one(tmp_path)
        assert "secret" not in str(raised.value)

    assert all(asked.headers.get("X-API-KEY") == KEY for asked in portal.of("catalogue", "file"))
    assert portal.of("signed") and not any("X-API-KEY" in asked.headers for asked in portal.of("signed"))
    printed = capfd.readouterr()
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    for text in (printed.out, printed.err, caplog.text, str(refused.value), *written):
        assert KEY not in text
    assert SIGNATURE not in printed.err


def test_one_process_at_a_time(portal: Play, tmp_path: Path) -> None:
    with files.locked(tmp_path / "manifest.json"), pytest.raises(InputError, match="another process"):
        one(tmp_path)

    assert not portal.asked


def test_the_disk_is_checked_before(portal: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: usage(len(portal.files[PATENT]) - 1))

    with pytest.raises(InputError, match="--out"):
        one(tmp_path)

    assert not portal.of("file")


def test_a_mirror_needs_no_key_and_shows_no_password(
    portal: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("USPTO_API_KEY")
    portal.faults["mirror"] = [lambda handler: handler.command == "GET" and cut(1000)(handler)] * 9

    url = portal.urls["mirror"].replace("//", "//me:password@")
    manifest = download_tables(tmp_path, base_url=f"{url}/")

    assert visible(tmp_path) == offered(portal)
    assert {asked.method for asked in portal.of("mirror")} == {"HEAD", "GET"}
    assert all(asked.headers["Authorization"].startswith("Basic") for asked in portal.asked)
    assert "password" not in (tmp_path / "manifest.json").read_text()
    assert manifest["tables"][PATENT]["release"].startswith("Wed, 15 Jul 2026")

    portal.asked.clear()
    portal.faults["mirror"] = [status(403)]
    with pytest.raises(InputError, match="403"):
        download_tables(tmp_path, base_url=url)
    assert len(portal.asked) == 1
    del portal.files[PATENT]
    with pytest.raises(InputError, match=PATENT):
        download_tables(tmp_path, base_url=url)


def test_a_proxy_of_the_environment_is_used(portal: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", portal.urls["mirror"])
    monkeypatch.delenv("no_proxy", raising=False)

    download_tables(tmp_path, ["g_patent"], "http://mirror.invalid")

    assert {asked.path for asked in portal.asked} == {f"http://mirror.invalid/{PATENT}"}


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder_is_copied(portal: Play, zipped: Path, tmp_path: Path, form: str) -> None:
    download_tables(tmp_path, base_url=form.format(zipped))

    assert visible(tmp_path) == offered(portal) and not portal.asked
    assert (tmp_path / PATENT).stat().st_ino != (zipped / PATENT).stat().st_ino

    with pytest.raises(InputError, match="nowhere"):
        download_tables(tmp_path, base_url="nowhere")


def test_a_folder_of_tables_can_be_checked(zipped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    shutil.copytree(zipped, folder)

    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    manifest = download_tables(folder, base_url=str(folder))

    assert {*manifest["tables"]} == {path.name for path in before if path.match("g_*.zip")}
    manifest["tables"][PATENT]["release"] = "2026-09-30"  # the portal's
    files.write_json(folder / "manifest.json", manifest)
    assert download_tables(folder, base_url=str(folder)) == manifest
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path.is_file())

    for content in (damaged((folder / PATENT).read_bytes()), zip_of(1000)):
        (folder / PATENT).write_bytes(content)
        with pytest.raises(InputError, match=PATENT):
            download_tables(folder, base_url=str(folder))
        assert (folder / PATENT).read_bytes() == content


def test_ctrl_c_keeps_what_has_arrived(portal: Play, tmp_path: Path) -> None:
    portal.faults["mirror"] = [lambda _: False, stall(200_000)]
    portal.files[PATENT] = zip_of(300_000)
    arguments = ["--out", str(tmp_path), "--tables", "g_patent", "--base-url", portal.urls["mirror"]]
    line = [sys.executable, "-m", "patentcl.download", *arguments]
    started = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    while started.poll() is None and not any(path.stat().st_size for path in tmp_path.glob("*.partial")):
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    _, printed = started.communicate(timeout=30)
    kept = next(tmp_path.glob("*.partial")).stat().st_size

    assert started.returncode == 130 and f"{kept:,} of 300,000" in printed and "Traceback" not in printed

    done = subprocess.run(line, capture_output=True, text=True)

    assert done.returncode == 0 and f"{kept:,}" in done.stderr
    assert visible(tmp_path) == {PATENT: portal.files[PATENT]}
    assert portal.asked[-1].headers["Range"] == f"bytes={kept}-"


def test_an_interrupt_in_the_notebook_is_one_sentence(portal: Play, tmp_path: Path) -> None:
    def interrupt(handler: Handler) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return stall(1000)(handler)

    portal.faults["signed"] = [interrupt]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Interrupted, match=PATENT):
            one(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
