"""Training records: a record for each call of a run, written, and read back with every check.

`read_records` streams what can be believed and counts the rest by reason; `write_records` writes
the layout of the project that the format comes from, JSON Lines, or Parquet.
"""

from pytest_vlmlatency.export.fields import Reason
from pytest_vlmlatency.export.reading import LeftOut, RecordReader, read_records
from pytest_vlmlatency.export.runs import RunRecords, records_of
from pytest_vlmlatency.export.writing import write_records

__all__ = [
    "LeftOut",
    "Reason",
    "RecordReader",
    "RunRecords",
    "read_records",
    "records_of",
    "write_records",
]
