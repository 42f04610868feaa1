"""Packed content is read block by block, up to a bound."""

import gzip
import io
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
    with pytest.raises(ValueError, match="more than 4320 bytes"):
        bounded_read.read_bounded(io.BytesIO(content), 4320)


def test_a_packed_table_is_bounded_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_ALWAYS_UNPACKED", 1000)
    packed = gzip.compress(b"1,2,5\n" * 10**5)
    with pytest.raises(ValueError, match=r"ratings.csv.gz: its \d+ bytes unpack to more than \d+; unpack it yourself"):
        sources._unpack("ratings.csv.gz", packed)
    assert sources._unpack("ratings.csv.gz", gzip.compress(b"1,2,5\n")) == b"1,2,5\n"
