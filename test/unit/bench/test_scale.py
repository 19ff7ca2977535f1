"""What `make scale` gives to the bench: the rollouts of so many sites, in the form of a part of its results."""

from bench import report, results, scale


def test_rollouts_become_a_part_of_the_results_with_their_goal():
    rows = [
        {"n": n, "seconds": [20.0 * factor, 22.0 * factor], "memory": [(100 + n * 10) * 2**20, (100 + n * 12) * 2**20]}
        for n, factor in ((1, 1), (16, 1.25))
    ]  # fmt: skip
    record = results.Record("rollout", "abc1234", "a machine")
    found = results.checked(scale.for_bench(rows, record))
    assert found["parts"]["rollout"]["samples"] == {
        "sites_1": [20.0, 22.0], "memory_1": [110.0, 112.0], "sites_16": [25.0, 27.5], "memory_16": [260.0, 292.0],
    }  # fmt: skip
    assert found["parts"]["rollout"]["agent"] == "played"
    by_id = {one.row.id: one for one in report.outcomes(found)}
    assert by_id["rollout_16"].values == [1.25, 1.25] and by_id["rollout_16"].reached is True
    assert by_id["rollout_memory"].values == [10.0, 12.0]
