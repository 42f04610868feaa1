"""Arrays from files that may be damaged, or a stranger's: all of them as they were written, or an error."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from recbole_diffusion.evaluation.split_data import SplitData
from recbole_diffusion.support import npz_files

ARRAYS = {"train": np.arange(6), "user_names": np.array(["a", "b"]), "x": np.ones(3)}


def packed(save, arrays=ARRAYS):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_flipped_bit_of_the_directory_loses_or_changes_an_array(save):
    """An entry whose comment seems longer takes the next entries with it, and zipfile says nothing."""
    raw = packed(save)
    read = 0
    for bit in range(8 * raw.index(b"PK\x01\x02"), 8 * len(raw)):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        Path("a.npz").write_bytes(damaged)
        try:
            arrays = npz_files.read("a.npz")
        except ValueError:
            continue
        read += 1
        assert arrays.keys() == ARRAYS.keys()
        assert all(np.array_equal(arrays[name], array) for name, array in ARRAYS.items())
    assert read  # dates and versions, which nobody reads


def test_an_archive_with_a_comment_is_read_and_one_with_a_name_twice_is_not():
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.comment = b"of another program"
        for name, array in ARRAYS.items():
            archive.writestr(f"{name}.npy", packed(lambda stream, array=array: np.save(stream, array), {}))
    assert npz_files.read("a.npz").keys() == ARRAYS.keys()
    with zipfile.ZipFile("a.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("x.npy", b"")
    with pytest.raises(ValueError, match="it is damaged: its directory lists 4 arrays of 4"):
        npz_files.read("a.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_what_follows_is_not_unpacked_if_the_directory_promises_less(method, monkeypatch):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("a.npy", bytes(50_000_000))
    raw = bytearray(stream.getvalue())
    entry = raw.rindex(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = struct.pack("<I", 100)
    Path("a.npz").write_bytes(raw)
    unpacked = []
    update = zipfile.ZipExtFile._update_crc
    monkeypatch.setattr(
        zipfile.ZipExtFile, "_update_crc", lambda self, data: (unpacked.append(len(data)), update(self, data))[1]
    )
    with pytest.raises(ValueError, match=r"another method than numpy.s|is damaged: Bad CRC-32"):
        npz_files.read("a.npz")
    assert sum(unpacked) <= 100


@pytest.mark.parametrize("without", ["train", "targets", "sizes", "category_names"])
def test_data_of_a_split_that_lack_an_array_are_named(without):
    arrays = {
        "format": np.array(1),
        "sizes": np.array([2, 2]),
        "train": np.ones((1, 2), int),
        "targets": np.ones((1, 2), int),
        "categories": np.ones((1, 2), int),
        "category_names": np.array(["a"]),
        "category_field": np.array("genre"),
    }
    np.savez("split.npz", **arrays)
    assert SplitData.load("split.npz").n_users == 2
    del arrays[without]
    np.savez("split.npz", **arrays)
    with pytest.raises(ValueError, match=r"split data .split.npz. cannot be read: it does not exist or is damaged"):
        SplitData.load("split.npz")
