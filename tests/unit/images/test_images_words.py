"""The words of a Dockerfile: quotes, escapes and variables, as BuildKit reads them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.images.words import WordError, expand, expand_words, split

VARIABLES = {"a": "one", "empty": "", "path": "/usr/local/lib", "v": "v1.2.3"}


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("$a", "one"),
        ("${a}b", "oneb"),
        ("$ab", ""),
        ("x$a-y", "xone-y"),
        (r"\$a", "$a"),
        ("'$a'", "$a"),
        ('"$a b"', "one b"),
        (r'"\"$a\""', '"one"'),
        (r'"\x"', r"\x"),
        ("${unset:-d}", "d"),
        ("${unset-d}", "d"),
        ("${empty:-d}", "d"),
        ("${empty-d}", ""),
        ("${a:+set}", "set"),
        ("${empty:+set}", ""),
        ("${empty+set}", "set"),
        ("${unset:-${a}}", "one"),
        ("${unset:-'a b'}", "a b"),
        ("${path#*/}", "usr/local/lib"),
        ("${path##*/}", "lib"),
        ("${path%/*}", "/usr/local"),
        ("${path%%/*}", ""),
        ("${v#v}", "1.2.3"),
        ("${v/./-}", "v1-2.3"),
        ("${v//./-}", "v1-2-3"),
        ("$", "$"),
        ("a\\", "a\\"),
    ],
)
def test_variables_are_replaced(word: str, result: str) -> None:
    assert expand(word, VARIABLES.get) == result


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${a", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("'x", "unexpected end of statement while looking for matching single-quote"),
        ('"x', "unexpected end of statement while looking for matching double-quote"),
        ("${a^^}", "unsupported modifier (^) in substitution"),
        ("${unset:?give it}", "unset: give it"),
        ("${empty:?}", "empty: is not allowed to be unset or empty"),
    ],
)
def test_a_broken_word_says_what_is_wrong(word: str, message: str) -> None:
    with pytest.raises(WordError) as caught:
        expand(word, VARIABLES.get)
    assert str(caught.value) == message


def test_blanks_in_quotes_do_not_cut() -> None:
    assert split("""a=1 b="x y" c='z  w' d=e\\ f""") == ["a=1", 'b="x y"', "c='z  w'", "d=e\\ f"]


def test_words_may_come_out_of_a_variable() -> None:
    assert expand_words("$p 90", {"p": "80 443"}.get) == ["80", "443", "90"]


@given(st.text(alphabet="ab$\\{}'\":-+#%/?* ", max_size=20))
def test_any_text_is_a_word_or_a_clean_error(text: str) -> None:
    with suppress(WordError):
        expand(text, VARIABLES.get)
