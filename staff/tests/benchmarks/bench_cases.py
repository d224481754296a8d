"""A small record of results for the tests of `bench`."""

from bench.record import Record, Row, Table


def some_record() -> Record:
    rows = [Row("ours / theirs", 0.5, "", 0.75, "at most"), Row("memory", 2.5, "GB", 2, "below"), Row("floor", 7.0)]
    tables = [Table(["way", "seconds"], [["ours", "1.0"], ["theirs", "2.0"]])]
    return Record("a title", rows, tables, "Words.", {"a.png": "a plot"}, "`command`, date", {"a.png": b"bytes"})
