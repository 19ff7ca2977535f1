"""A second converge of any suite: everything is as wished, and nothing changes."""


def test_a_second_converge_changes_nothing(salt_call):
    states, code = salt_call("state.highstate")
    assert code == 0
    assert states, "the highstate has no state"
    assert {
        title: state["comment"]
        for title, state in states.items()
        if state["changes"] or state["result"] is not True
    } == {}


def test_a_third_in_test_mode_foresees_nothing(salt_call):
    states, code = salt_call("state.highstate test=True")
    assert code == 0
    assert [title for title, state in states.items() if state["result"] is not True] == []
