"""Strings are found in their buffers all at once, or not at all: never otherwise than a walk from length to length finds them."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving import wire_texts
from serving.refusals import MalformedRequest
from serving.wire_texts import are_utf8, texts_of, texts_of_all


@pytest.fixture(scope="module", autouse=True, params=[1024, 0], ids=["as it is", "none is small"])
def few_bytes(request):
    """Small buffers are walked; what is drawn here is small, and the rest shall be tried on it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire_texts, "_FEW_BYTES", request.param)
        yield


def laid(strings: list[bytes]) -> bytes:
    return b"".join(len(text).to_bytes(4, "little") + text for text in strings)


def walked(buffer: bytes) -> list[bytes] | None:
    """The oracle; None for a buffer whose last string is cut."""
    found, at = [], 0
    while at < len(buffer):
        end = at + 4 + int.from_bytes(buffer[at : at + 4], "little")
        if at + 4 > len(buffer) or end > len(buffer):
            return None
        found.append(buffer[at + 4 : end])
        at = end
    return found


NASTY = st.binary(max_size=9) | st.sampled_from(
    [b"", b"\0\0\0", b"a\0\0\0b", b"\1\0\0\0", b"x" * 255, b"x" * 256]
)
BUFFERS = st.lists(st.lists(NASTY, max_size=5), min_size=1, max_size=5)


@settings(deadline=None, max_examples=150)
@given(BUFFERS)
@example([[b"abcd"] * 3, [b"efgh"]])
@example([[], [b""], [], [b"", b""]])
@example([[b"", b"a", b""], [b"b"]])
def test_strings_of_many_buffers_are_those_that_were_put_in(strings):
    buffers = [laid(own) for own in strings]
    found = texts_of_all(buffers)
    if found is not None:
        assert [texts.tolist() for texts in found] == strings
        assert len({id(texts.buffer) for texts in found}) == 1
    assert [texts_of("x", buffer).tolist() for buffer in buffers] == strings


@settings(deadline=None)
@given(st.lists(st.text("abcdefgh", min_size=1, max_size=20).map(str.encode), min_size=1, max_size=30))
def test_short_plain_strings_are_found_at_once(strings):
    found = texts_of_all([laid(strings), laid(strings[1:])])
    assert found is not None


@pytest.mark.parametrize("rows", [1, 40, 400])
def test_lists_that_are_padded_with_empty_strings_are_found_at_once_too(rows):
    """In a row of empty strings every fourth zero looks like the length of one."""
    lists = [text for i in range(rows) for text in [b"item %d" % i] * (i % 4) + [b""] * (8 - i % 4)]
    names, empty = [b"name %d" % i for i in range(rows)], [b""] * rows
    found = texts_of_all([laid(names), laid(empty), laid(lists), laid(empty)])
    assert found is not None
    assert [texts.tolist() for texts in found] == [names, empty, lists, empty]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.binary(max_size=24) | BUFFERS.map(lambda own: laid(own[0])), min_size=1, max_size=4))
@example([b"\2\0\0\0a", b"b"])  # the end of one is the beginning of the next
def test_any_bytes_are_read_as_a_walk_reads_each_buffer_or_refused(buffers):
    expected = [walked(buffer) for buffer in buffers]
    found = texts_of_all(buffers)
    if found is not None:
        assert [texts.tolist() for texts in found] == expected
    for buffer, strings in zip(buffers, expected, strict=True):
        if strings is None:
            with pytest.raises(MalformedRequest, match="runs past the end"):
                texts_of("x", buffer)
        else:
            assert texts_of("x", buffer).tolist() == strings


@given(
    st.lists(st.lists(st.text(max_size=3).map(str.encode) | st.binary(max_size=2), min_size=1), min_size=1)
)
@example([["ü".encode()[:1], "ü".encode()[1:]]])
def test_a_character_cut_in_two_is_not_mended_by_a_neighbour(strings):
    def is_utf8(text: bytes) -> bool:
        try:
            text.decode()
        except UnicodeDecodeError:
            return False
        return True

    found = texts_of_all([laid(own) for own in strings])
    if found is not None:
        assert are_utf8(found) == all(is_utf8(text) for own in strings for text in own)
