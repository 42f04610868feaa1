"""The catalogue: its entries, and what is fetched, verified, unpacked and refused, from a server of the test."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from recbole_diffusion import cli, registry
from recbole_diffusion.data.catalogue import download, entries, fetching
from recbole_diffusion.data.catalogue.entries import Entry
from recbole_diffusion.data.stored import files
from recbole_diffusion.experiment import published
from recbole_diffusion.support import yaml_files

RATINGS = "1::10::5::978300760\n1::20::3::978300761\n2::10::4::978300762\n"


def entry(address, **more):
    values = {"name": "small", "title": "t", "papers": [], "addresses": [address], "format": "table", "licence": "free"}
    values |= {"page": "p", "citation": "c", "table": "ratings.dat"}
    values |= {"arguments": {"user": "1", "item": "2", "rating": "3", "time": "4"}}
    return Entry(**{**values, **more})


def zipped(file, members):
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return Path(file).absolute().as_uri()


def fetched(value, **more):
    said = []
    fetching.fetch(value, say=said.append, **more)
    return "\n".join(said)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """The address of a server of the folder ``served``."""
    (tmp_path / "served").mkdir()
    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


def test_every_entry_is_whole():
    known = entries.entries()
    recbole = yaml_files.load_yaml(registry.recbole_folder() / "properties" / "dataset" / "url.yaml")
    assert len(known) >= 18
    for name, value in known.items():
        assert value.addresses, name
        assert value.licence, name
        assert value.citation, name
        assert value.page.startswith("https://"), name
        assert {*value.checksum} <= {*value.files}, name
        assert all(text.partition(":")[0] in {"md5", "sha256"} for text in value.checksum.values()), name
        assert value.by_hand or all(address.startswith("https://") for address in value.addresses), name
        if value.format == "atomic":
            assert value.addresses[0] in recbole.values(), name
        assert value.format != "table" or value.table, name
        assert {*value.papers} <= {spec.name for spec in registry.ours()}, name


def test_the_sizes_are_those_of_the_published_settings():
    known = entries.entries()
    for file in sorted((yaml_files.properties() / "paper").glob("*.yaml")):
        data, name = yaml_files.load_yaml(file)["data"], file.stem.partition("_")[2]
        name = f"{name}-5core" if name in {"amazon-beauty", "amazon-toys"} else name
        if name in known:
            assert known[name].users in (None, data["users"]), file.name
            assert known[name].item_count in (None, data["items"]), file.name
            assert known[name].interactions in (None, data.get("interactions")), file.name
    assert published is not None


def test_a_table_is_downloaded_verified_and_imported(server):
    zipped("served/small.zip", {"small/ratings.dat": RATINGS})
    digest = hashlib.md5(Path("served/small.zip").read_bytes()).hexdigest()
    said = fetched(entry(f"{server}/small.zip", checksum={"small.zip": f"md5:{digest}"}))
    assert "small.zip: md5 as in the catalogue" in said
    stored = files.find("small")
    assert stored.inter.read_text().split("\n")[1] == "1\t10\t5\t978300760"
    assert stored.card["counts"]["interactions"] == 3
    assert stored.card["licence"] == "free"
    assert stored.card["addresses"] == [f"{server}/small.zip"]
    assert not [path.name for path in Path("dataset/.downloads/small").iterdir() if path.is_dir()]


def test_what_a_killed_fetch_has_unpacked_is_removed_by_the_next():
    address = zipped("small.zip", {"small/ratings.dat": RATINGS})
    child = os.fork()
    if child == 0:
        fetching._unpack = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        fetched(entry(address))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    downloads = Path("dataset/.downloads/small")
    assert next(path.name for path in downloads.iterdir() if path.is_dir()).startswith(f".unpacked-{child}-")
    fetched(entry(address))
    assert not [path for path in downloads.iterdir() if path.is_dir()]
    assert files.find("small").card["counts"]["interactions"] == 3


def test_another_checksum_is_refused_and_nothing_is_written(server):
    zipped("served/small.zip", {"ratings.dat": RATINGS})
    with pytest.raises(ValueError, match=r"has the sha256 [0-9a-f]{64}, expected is 00: it is damaged"):
        fetched(entry(f"{server}/small.zip", checksum={"small.zip": "sha256:00"}))
    assert not Path("dataset/small").exists()


def test_without_a_checksum_the_first_one_is_recorded_and_holds(server):
    zipped("served/small.zip", {"ratings.dat": RATINGS})
    value = entry(f"{server}/small.zip")
    assert "recorded; the catalogue has no checksum" in fetched(value)
    assert "sha256 as when it first came" in fetched(value, overwrite=True)
    zipped("dataset/.downloads/small/small.zip", {"ratings.dat": RATINGS + "3::10::1::978300763\n"})
    with pytest.raises(ValueError, match="it is damaged, or another file; remove it"):
        fetched(value, overwrite=True)


def test_a_file_that_was_put_there_is_taken():
    folder = Path("dataset/.downloads/small")
    with pytest.raises(ValueError, match="could not be downloaded") as error:
        fetched(entry("http://127.0.0.1:9/small.zip"))
    line = str(error.value)
    assert line.startswith("small could not be downloaded from http://127.0.0.1:9/small.zip (")
    assert line.endswith(f"put small.zip into {folder} and run data fetch small again")
    assert "\n" not in line
    zipped(folder / "small.zip", {"ratings.dat": RATINGS})
    assert "taken, it is there" in fetched(entry("http://127.0.0.1:9/small.zip"))
    assert files.find("small").card["counts"]["users"] == 2


def test_a_connection_that_ends_early_leaves_no_file(monkeypatch):
    class Response(io.BytesIO):
        headers = {"Content-Length": "100"}

    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *_, **__: Response(b"x" * 40))
    with pytest.raises(ValueError, match="the connection ended after 40 of 100 bytes"):
        fetched(entry("http://example.org/small.zip"))
    assert list(Path("dataset/.downloads/small").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../evil.inter", "/tmp/evil.inter", "a/../../evil.inter", "C:/evil.inter", "..\\evil.inter"]
)
def test_no_member_leaves_the_folder(name):
    address = zipped("bad.zip", {"fine.inter": "user_id:token\titem_id:token\na\tb\n", name: "x"})
    with pytest.raises(ValueError, match="would be written outside of the folder; it is not unpacked"):
        fetched(entry(address, format="atomic"))
    assert not list(Path().rglob("evil*"))
    assert not list(Path("/tmp").glob("evil.inter"))


def test_links_in_a_tar_are_not_unpacked():
    with tarfile.open("set.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        archive.addfile(link)
        content = b"user_id:token\titem_id:token\na\tb\n"
        member = tarfile.TarInfo("set.inter")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    fetched(entry(Path("set.tar.gz").absolute().as_uri(), format="atomic"))
    assert sorted(path.name for path in Path("dataset/small").iterdir()) == [
        "small.card.json",
        "small.card.md",
        "small.inter",
    ]


def test_sequences_and_arrays_are_converted(tmp_path):
    Path("Beauty.txt").write_text("1 10 20 30\n2 20 40\n")
    fetched(entry(Path("Beauty.txt").absolute().as_uri(), format="sequences"))
    stored = files.find("small")
    assert stored.inter.read_text().split("\n")[1:4] == ["1\t10\t0", "1\t20\t1", "1\t30\t2"]
    folder = tmp_path / "dataset" / ".downloads" / "split"
    value = entry("train_list.npy", name="split", format="diffrec", by_hand=True)
    value = Entry(**{**vars(value), "addresses": ["train_list.npy", "valid_list.npy", "test_list.npy"]})
    with pytest.raises(
        ValueError, match=r"cannot be downloaded directly: get train_list.npy, .* from p, put them into"
    ):
        fetched(value)
    for part, pairs in (("train", [[0, 0], [1, 1]]), ("valid", [[0, 1]]), ("test", [[1, 0]])):
        np.save(folder / f"{part}_list.npy", np.array(pairs))
    fetched(value)
    stored = files.find("split")
    assert stored.parts() == ["train", "valid", "test"]
    assert stored.card["counts"]["interactions"] == 4
    assert (stored.card["counts"]["users"], stored.card["counts"]["items"]) == (2, 2)


def test_the_commands_list_and_fetch(server, capsys):
    assert cli.main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert "  none" in out
    assert "ml-1m_clean" in out
    assert cli.main(["data", "list", "ml-1m"]) == 0
    assert "md5:c4d9eecfca2ab87c1945afe126590906" in capsys.readouterr().out
    zipped("served/lastfm.zip", {"x/lastfm.inter": "user_id:token\tartist_id:token\tweight:float\n1\t2\t3\n1\t3\t4\n"})
    assert cli.main(["data", "fetch", "lastfm", f"--address={server}/lastfm.zip"]) == 0
    out = capsys.readouterr().out
    assert "terms: non-commercial use" in out
    assert out.endswith("run --model=DiffRec --dataset=lastfm --ITEM_ID_FIELD=artist_id\n")
    assert cli.main(["data", "list"]) == 0
    assert "  lastfm                   1 users, 2 items, 2 interactions" in capsys.readouterr().out
    assert cli.main(["data", "fetch", "ml-2m"]) == 2
    assert "'ml-2m' is not in the catalogue; did you mean ml-20m?" in capsys.readouterr().err
    assert cli.main(["data", "fetch", "lastfm"]) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err


def test_the_record_is_json(server):
    zipped("served/small.zip", {"ratings.dat": RATINGS})
    fetched(entry(f"{server}/small.zip"))
    digest = hashlib.sha256(Path("served/small.zip").read_bytes()).hexdigest()
    assert json.loads(Path("dataset/.downloads/small/checksums.json").read_text()) == {"small.zip": f"sha256:{digest}"}


def test_an_archive_with_several_files_of_one_kind_is_refused():
    """One of them would silently be the data set, e.g. the test part of files that are split."""
    head = "user_id:token\titem_id:token\n"
    address = zipped("parts.zip", {"x.train.inter": f"{head}a\tb\n", "x.test.inter": f"{head}a\tc\n"})
    with pytest.raises(ValueError, match=r"holds several files of one kind; in it: x\.test\.inter, x\.train\.inter"):
        fetched(entry(address, format="atomic", table=None, arguments={}))
    assert not Path("dataset", "small").exists()
