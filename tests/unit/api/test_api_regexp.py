import time

import pytest

from podling.api.regexp import RegexpError, regexp


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("a(b", "missing closing ): `a(b`"),
        ("a)", "unexpected ): `a)`"),
        ("x[a", "missing closing ]: `[a`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"a\C", r"invalid escape sequence: `\C`"),
        ("a(?=b)", "invalid or unsupported Perl syntax: `(?=`"),
        ("a(?<=b)c", "invalid named capture: `(?<=b)c`"),
        ("(?<a-b>x)", "invalid named capture: `(?<a-b>`"),
    ],
)
def test_what_is_no_regular_expression_is_refused_in_gos_words(pattern: str, words: str) -> None:
    with pytest.raises(RegexpError) as error:
        regexp(pattern)
    assert str(error.value) == f"error parsing regexp: {words}"


def test_the_syntax_is_gos() -> None:
    assert regexp(r"^a\z").matches("a")
    assert not regexp(r"^a$").matches("a\n")
    assert regexp(r"^\pL+$").matches("é")
    assert not regexp(r"^\w+$").matches("é")
    assert regexp("(?i)^(?P<n>A)(?<m>b)$").matches("aB")


def test_an_empty_match_right_behind_another_is_none() -> None:
    assert list(regexp("a*").found("baaac")) == ["", "aaa", ""]
    assert list(regexp("é?").found("éü")) == ["é", ""]


def test_a_hostile_pattern_takes_no_longer_than_another() -> None:
    before = time.perf_counter()
    assert not regexp("^(a+)+$").matches("a" * 50_000 + "!")
    assert time.perf_counter() - before < 2
