import pytest

from podling.kinds.apiextensions.instances.formats import FORMATS


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "datetime",
            ["2024-02-29T12:00:00Z", "2024-02-29t23:59:59.5+01:00"],
            ["2024-02-29T12:00:00", ""],
        ),
        ("date", ["2024-02-29"], ["20240229", "2024-W01-1", "2023-02-29"]),
        ("duration", ["1h30m", "22 ns", "2 weeks"], ["", "5", "5 parsecs"]),
        ("uri", ["https://a/b c", "/x", "mailto:a"], ["a/b", "", "https://a:x/"]),
        ("email", ["a@b.c", "N <a@b>", '"x y"@b'], ["a", "a@", ".a@b", "a@b@c"]),
        ("hostname", ["a.example", "1a", "é.example"], ["-a.example", "a..b", "a" * 70]),
        ("ipv4", ["1.2.3.4", "010.0.0.1"], ["1.2.3", "::1", "1.2.3.256"]),
        ("ipv6", ["::1", "1::"], ["1.2.3.4", "fe80::1%eth0"]),
        ("cidr", ["10.0.0.0/8", "::/0"], ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/255.0.0.0"]),
        ("mac", ["01:23:45:67:89:ab", "0123.4567.89ab", "01-23-45-67-89-ab-cd-ef"], ["01:23", "01:23:45:67:89:ab:cd"]),
        ("uuid", ["0" * 32, "00000000-0000-0000-0000-000000000000"], ["{" + "0" * 32 + "}", "0" * 31]),
        ("uuid4", ["00000000-0000-4000-8000-000000000000"], ["00000000-0000-4000-0000-000000000000"]),
        ("isbn", ["0321751043", "978-0321751041"], ["0321751044"]),
        ("creditcard", ["4111 1111 1111 1111"], ["4111111111111112", "1234567812345670"]),
        ("ssn", ["123-45-6789"], ["123456789"]),
        ("byte", ["YQ=="], ["", "Y", "a b="]),
        ("k8sshortname", ["a-b"], ["A", "a.b", "-a"]),
        ("k8slongname", ["a.b-c"], ["a..b"]),
    ],
)
def test_a_format_takes_what_it_is_of(name: str, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not FORMATS[name](text)] == []
    assert [text for text in bad if FORMATS[name](text)] == []
