"""Options of `deploy kserve`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from refine_export.signature import check_range

_SCHEMES: Final = ("s3", "gs", "pvc", "hdfs", "webhdfs", "http", "https", "oci", "hf")
"""Schemes that KServe's storage initializer reads (SupportedStorageURIPrefixList)."""


@dataclass(frozen=True, kw_only=True)
class KServeOptions:
    """Options of the InferenceService of a repository."""

    storage_uri: str = field(metadata={"flag": "--storage-uri"})
    """Address that the repository was copied to, such as s3://bucket/models."""
    name: str | None = field(default=None, metadata={"flag": "--name"})
    """Name of the service; default: interpolate, or the first model's."""
    release: str | None = field(default=None, metadata={"flag": "--triton-release", "metavar": "YY.MM"})
    """Release of Triton, such as 26.06; default: the newest that is known to run all engines."""
    gpus: int = field(default=1, metadata={"flag": "--gpu"})
    """GPUs of each replica."""
    min_replicas: int = field(default=1, metadata={"flag": "--min-replicas"})
    """Smallest number of replicas; 0: none while there are no requests."""
    max_replicas: int = field(default=4, metadata={"flag": "--max-replicas"})
    """Largest number of replicas."""
    concurrency: int = field(default=4, metadata={"flag": "--concurrency"})
    """Concurrent requests at a replica before one more is started."""
    protocol: Literal["grpc", "http"] = field(default="grpc", metadata={"flag": "--protocol"})
    """grpc or http: Knative opens one port."""

    def __post_init__(self) -> None:
        scheme, separator, rest = self.storage_uri.partition("://")
        if scheme not in _SCHEMES or not separator or not re.fullmatch(r"[!-~]+", rest):
            raise ValueError(
                f"storage_uri is {self.storage_uri!r}; expected a place that KServe reads, such as s3://bucket/models "
                f"({', '.join(_SCHEMES)})"
            )
        if self.name is not None and not re.fullmatch(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?", self.name):
            raise ValueError(
                f"name is {self.name!r}; expected a letter and at most 49 small letters, digits and dashes"
            )
        if self.release is not None and not re.fullmatch(r"[0-9]{2}\.(0[1-9]|1[0-2])", self.release):
            raise ValueError(f"release is {self.release!r}; expected a year and a month, such as 26.06")
        check_range("gpus", self.gpus, 0, 16)
        check_range("max_replicas", self.max_replicas, 1, 1000)
        check_range("min_replicas", self.min_replicas, 0, self.max_replicas)
        check_range("concurrency", self.concurrency, 1, 1000)
