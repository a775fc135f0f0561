"""Image names become what containerd would pull, or are refused in its words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.images import references
from podling.images.errors import ImageError

HEX = "a" * 64


@pytest.mark.parametrize(
    ("given_name", "normal"),
    [
        ("my-monitor-app:v1", "docker.io/library/my-monitor-app:v1"),
        ("nginx", "docker.io/library/nginx:latest"),
        ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b:x", "localhost:5000/a/b:x"),
        ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("ghcr.io/org/app:v1.2_3", "ghcr.io/org/app:v1.2_3"),
        (f"nginx@sha256:{HEX}", f"docker.io/library/nginx@sha256:{HEX}"),
        (f"nginx:1.2@sha256:{HEX}", f"docker.io/library/nginx:1.2@sha256:{HEX}"),
        ("127.0.0.1:1/nope:1", "127.0.0.1:1/nope:1"),
        ("[::1]:5000/x:1", "[::1]:5000/x:1"),
        ("Upper.example/app", "Upper.example/app:latest"),
    ],
)
def test_a_name_is_completed(given_name: str, normal: str) -> None:
    assert str(references.parse_image(given_name)) == normal


@pytest.mark.parametrize("name", ["nginx:1.27", "bitnami/redis:7", "ghcr.io/org/app:v1", "localhost:5000/x:1"])
def test_the_familiar_form_is_what_people_write(name: str) -> None:
    assert references.parse(name).familiar == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        (":tag", "invalid reference format"),
        ("nginx:", "invalid reference format"),
        ("-nginx", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("nginx:-bad", "invalid reference format"),
        ("nginx:" + "t" * 129, "invalid reference format"),
        ("MyApp:v1", "invalid reference format: repository name (library/MyApp) must be lowercase"),
        ("ghcr.io/Org/app", "invalid reference format: repository name (Org/app) must be lowercase"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        ("x/" + "y" * 250, "repository name must not be more than 255 characters"),
        ("nginx@sha256:" + "a" * 40, "invalid checksum digest length"),
        ("nginx@md5:" + "a" * 32, "unsupported digest algorithm"),
    ],
)
def test_a_bad_name_is_refused_in_the_kubelets_words(name: str, why: str) -> None:
    with pytest.raises(ImageError) as caught:
        references.parse_image(name)
    assert caught.value.reason == "InvalidImageName"
    prefix = f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": '
    assert caught.value.message == prefix + why


@given(st.text(max_size=40))
def test_parsing_is_stable_and_never_breaks(text: str) -> None:
    try:
        reference = references.parse(text)
    except references.InvalidReference:
        return
    assert references.parse(str(reference)) == reference
    assert references.parse(reference.familiar) == reference
