"""Each functional test passes under every release of Salt that is supported, not only under the pinned one that all else runs on."""


def test_the_functional_tests_pass(suites, release):
    assert suites[release].passed(), suites[release].output()
