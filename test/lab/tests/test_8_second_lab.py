"""The last of the second lab, where there is one: what test_5_leaks.py asks of the first."""


def test_nothing_was_seen_of_a_secret(known, recorder):
    """Neither by bad input and a split brain nor by what was done to DRBD beside the site."""
    assert recorder.ended() == []
