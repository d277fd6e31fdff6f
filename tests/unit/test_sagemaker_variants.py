"""The variant of an endpoint that an image goes to."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from tasks.inference.sagemaker.endpoint_description import Variant
from tasks.inference.sagemaker.variant import choose_variant

names = st.text("abcdefgh", min_size=1, max_size=4)
weights = st.floats(0, 100, allow_subnormal=False)
some_variants = st.dictionaries(names, weights, min_size=1, max_size=6).map(
    lambda parts: [Variant(name, weight, 1) for name, weight in parts.items()]
)
digests = st.binary(max_size=8).map(lambda text: sha256(text).hexdigest())


@given(some_variants, digests, st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_variants(
    variants: list[Variant], digest: str, random: object
) -> None:
    chosen = choose_variant(variants, digest)
    shuffled = list(variants)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose_variant(shuffled, digest) == chosen
    assert chosen in {variant.name for variant in variants}


@given(some_variants, digests)
def test_a_variant_without_weight_gets_no_image_if_another_has_weight(
    variants: list[Variant], digest: str
) -> None:
    weight = {variant.name: variant.weight for variant in variants}
    if any(weight.values()):
        assert weight[choose_variant(variants, digest)] > 0


@given(some_variants, digests, st.integers(-8, 8))
def test_only_the_ratios_of_weights_matter(
    variants: list[Variant], digest: str, doublings: int
) -> None:
    scaled = [
        Variant(variant.name, variant.weight * 2.0**doublings, 1)
        for variant in variants
        if variant.weight == 0 or variant.weight > 1e-100
    ]
    original = [variant for variant in variants if variant.weight == 0 or variant.weight > 1e-100]
    if original:
        assert choose_variant(scaled, digest) == choose_variant(original, digest)


@given(st.dictionaries(names, st.integers(0, 9), min_size=2, max_size=4), st.integers(0, 2**31))
def test_many_images_are_distributed_by_weight(parts: dict[str, int], seed: int) -> None:
    variants = [Variant(name, weight, 1) for name, weight in parts.items()]
    works = [sha256(f"{seed} {number}".encode()).hexdigest() for number in range(2000)]
    shares = Counter(choose_variant(variants, work) for work in works)
    total = sum(parts.values())
    for name, weight in parts.items():
        expected = weight / total if total else 1 / len(parts)
        assert abs(shares[name] / len(works) - expected) < 0.07  # 6 standard deviations


@given(digests)
def test_without_weights_each_variant_may_be_chosen(digest: str) -> None:
    variants = [Variant("a", 0.0, 1), Variant("b", 0.0, 1)]
    half = int(digest, 16) < 16 ** len(digest) // 2
    assert choose_variant(variants, digest) == ("a" if half else "b")
