"""Netlink requests are bytes; these are their shapes, without a kernel."""

import struct

from podling.sandbox import netlink


def test_an_attribute_is_padded_to_four_bytes_but_tells_its_real_length():
    assert netlink.attribute(3, b"lo\0") == struct.pack("=HH", 7, 3) + b"lo\0\0"


def test_attributes_read_back_as_they_were_written():
    data = netlink.attribute(1, b"abc") + netlink.nested(2, netlink.attribute(5, b"wxyz"))
    outer = list(netlink.parse_attributes(data))
    assert outer[0] == (1, b"abc")
    assert list(netlink.parse_attributes(outer[1][1])) == [(5, b"wxyz")]


def test_a_truncated_attribute_ends_the_list_instead_of_looping():
    assert list(netlink.parse_attributes(struct.pack("=HH", 0, 1))) == []


def test_requests_of_a_batch_lie_aligned_behind_each_other():
    data = netlink.encode(netlink.Request(16, 0, b"abcde"), 7) + netlink.encode(netlink.Request(17, 4, b""), 8)
    first, second = netlink.parse_messages(data)
    assert (first.type, first.sequence, first.body) == (16, 7, b"abcde")
    assert (second.type, second.sequence, second.flags) == (17, 8, netlink.NLM_F_REQUEST | 4)


def test_the_default_route_names_no_destination():
    request = netlink.replace_route("0.0.0.0", 0, 2, gateway="10.244.0.1")
    kinds = dict(netlink.parse_attributes(request.body[12:]))
    assert kinds == {4: struct.pack("=I", 2), 5: bytes([10, 244, 0, 1])}
