"""Packed content is read block by block, up to a bound."""

import bz2
import gzip
import io
import lzma
import os

import pytest

from recbole_diffusion.data.importing import sources
from recbole_diffusion.support import bounded_read


class Counted(io.BytesIO):
    """Notes how much is asked for at once."""

    most = 0

    def read(self, size=-1):
        self.most = max(self.most, size)
        return super().read(size)


def test_all_is_read_and_no_more_is_asked_for_than_a_block(monkeypatch):
    monkeypatch.setattr(bounded_read, "_BLOCK", 1000)
    content = os.urandom(4321)
    stream = Counted(content)
    assert bounded_read.read_bounded(stream, 10**15) == content
    assert stream.most == 1000
    assert bounded_read.read_bounded(io.BytesIO(content), 4321) == content
    with pytest.raises(ValueError, match="more than 4320"):
        bounded_read.read_bounded(io.BytesIO(content), 4320)


@pytest.mark.parametrize("module", [bz2, lzma, gzip], ids=lambda module: module.__name__)
def test_all_streams_of_a_file_are_read_or_it_is_damaged(module):
    """pbzip2 and pixz write several. Python's readers take a damaged one for the end of the file."""
    first, second = b"1,2,5\n" * 1000, b"2,3,4\n" * 1000
    both = module.compress(first) + module.compress(second)
    assert bounded_read.unpack(both) == first + second
    assert bounded_read.unpack(module.compress(first) + bytes(8)) == first  # padding
    begin = len(module.compress(first))
    damaged = bytearray(both)
    damaged[begin] ^= 1
    for raw in (damaged, both[:-4], both[: begin + 6]):
        with pytest.raises((OSError, EOFError, lzma.LZMAError)):
            bounded_read.unpack(bytes(raw))
    with pytest.raises(ValueError, match=r"ratings.csv: cannot|ratings.csv cannot be unpacked: .*; download it again"):
        sources._unpack("ratings.csv", bytes(damaged))
    with (
        pytest.raises(OSError, match="|".join(["Invalid", "Not a gzipped"]))
        if module is not lzma
        else pytest.raises(lzma.LZMAError)
    ):
        bounded_read.unpack(module.compress(first) + b"garbage")


def test_a_packed_table_is_bounded_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_read, "_ALWAYS_UNPACKED", 1000)
    packed = gzip.compress(b"1,2,5\n" * 10**5)
    with pytest.raises(ValueError, match=r"ratings.csv.gz: its \d+ bytes unpack to more than \d+; unpack it yourself"):
        sources._unpack("ratings.csv.gz", packed)
    assert sources._unpack("ratings.csv.gz", gzip.compress(b"1,2,5\n")) == b"1,2,5\n"
