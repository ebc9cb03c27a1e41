"""Notes and tables of figures."""

from types import SimpleNamespace

from refine_export.bench.bench_result import notes_on_noise


def row(spread):
    return SimpleNamespace(file="a.onnx", runtime="half", latency=SimpleNamespace(spread=spread))


def test_a_spread_that_other_programs_cause_is_noted():
    assert [*notes_on_noise([row(0.02), row(0.1)])] == []
    [note] = notes_on_noise([row(0.02), row(0.25), row(0.4)])
    assert "2 rows" in note
    assert "40%" in note
    assert "of 1 row spread" in next(notes_on_noise([row(0.25)]))
