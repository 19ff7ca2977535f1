"""Lines through measured points, and what they say of sizes that were not measured. Nothing here measures anything."""

import statistics


def line(points):
    """
    (a, b, worst) of the line ``a + b * x`` with the least squares of relative errors through points [(x, y)], ``worst`` being the largest of these errors.

    Relative, so that the largest size does not decide alone. Raises ValueError for fewer than two different x, and for a y that is not above 0.
    """
    if len({x for x, _ in points}) < 2 or any(y <= 0 for _, y in points):
        raise ValueError(f"no line goes through {points}")
    weights = [1 / y**2 for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    slope = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True)) / spread  # fmt: skip
    # What an estate costs does not fall with its size: such a slope is what the points are apart by chance.
    slope = max(slope, 0.0)
    start = mean_y - slope * mean_x
    return start, slope, max(abs(start + slope * x - y) / y for x, y in points)


def at(points, x):
    """(y at x, whether it was measured): the measured value where there is one, else that of the line."""
    for known, value in points:
        if known == x:
            return value, True
    start, slope, _ = line(points)
    return start + slope * x, False


def ratios(rows):
    """Rows {n, seconds: [...]} with ``ratio``: each row's median over that of n = 1."""
    medians = {row["n"]: statistics.median(row["seconds"]) for row in rows}
    return [{**row, "ratio": round(medians[row["n"]] / medians[1], 2)} for row in rows]
