"""What keeps two scores from being compared is named."""

from genfoundry.gate.protocol import protocol_difference

A, B = "ab" * 32, "cd" * 32


def test_equal_protocols_differ_in_nothing() -> None:
    assert protocol_difference({"reference": {"digest": A}}, {"reference": {"digest": A}}) == []


def test_each_difference_is_one_line_with_both_sides() -> None:
    first = {"metric": "bits_per_byte", "likelihood": {"window": 128}, "reference": {"digest": A, "n": 3}}
    second = {"metric": "bits_per_byte", "likelihood": {"window": 64}, "reference": {"digest": B, "n": 3}, "x": ""}

    assert protocol_difference(first, second) == [
        "likelihood.window: 128 against 64",
        "reference.digest: abababababab.. against cdcdcdcdcdcd..",
        "x: absent against ''",
    ]


def test_digests_that_begin_alike_are_shown_whole() -> None:
    other = A[:-1] + "0"
    (line,) = protocol_difference({"digest": A}, {"digest": other})
    assert A in line and other in line


def test_numbers_of_another_kind_differ_in_their_value_alone() -> None:
    assert protocol_difference({"n": 1}, {"n": 1.0}) == []
    assert protocol_difference({"n": [1, 2]}, {"n": [1, 3]}) == ["n: [1, 2] against [1, 3]"]
    assert protocol_difference({"config": {}}, {"config": {"k": 5}}) == ["config.k: absent against 5"]
