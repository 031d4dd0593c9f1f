"""Where frames begin and end, against frames made by the rules of RFC 6455 section 5.2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.frames import FrameMarks, close_frame


@st.composite
def frames(draw):
    """Return one frame with a length in any of its three spellings, also where a shorter one would do."""
    content = draw(st.binary(max_size=200))
    first = draw(st.integers(0, 255))
    masked = draw(st.booleans())
    spellings = [(126, 2), (127, 8)] + ([(len(content), 0)] if len(content) < 126 else [])
    short, width = draw(st.sampled_from(spellings))
    length = len(content).to_bytes(width, "big") if width else b""
    return bytes((first, short | (0x80 if masked else 0))) + length + (b"mask" if masked else b"") + content


@given(st.lists(frames(), max_size=5), st.data())
def test_however_it_is_cut_the_marks_stand_exactly_between_frames(made, data):
    """At every byte: `between` is true where a frame has ended, and nowhere else."""
    raw = b"".join(made)
    ends, at = {0}, 0
    for frame in made:
        at += len(frame)
        ends.add(at)
    marks, at = FrameMarks(), 0
    assert marks.between
    while at < len(raw):
        step = data.draw(st.integers(1, len(raw) - at))
        marks.pass_over(raw[at : at + step])
        at += step
        assert marks.between == (at in ends)


def test_the_largest_length_is_not_gone_through_byte_by_byte():
    """A frame that announces an exbibyte costs nothing until it comes."""
    marks = FrameMarks()
    marks.pass_over(b"\x82\x7f\x10" + bytes(7) + b"x" * 1000)
    assert not marks.between


@pytest.mark.parametrize("masked", [True, False])
def test_a_goodbye_is_one_whole_control_frame(masked):
    """FIN and opcode 8, at most 125 bytes; a longer reason is the caller's mistake."""
    frame = close_frame(1008, "why", masked=masked)
    marks = FrameMarks()
    marks.pass_over(frame)
    assert (0x88, True, masked) == (frame[0], marks.between, bool(frame[1] & 0x80))
    with pytest.raises(ValueError, match="125"):
        close_frame(1008, "x" * 124, masked=masked)
