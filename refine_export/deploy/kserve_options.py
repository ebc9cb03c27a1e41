"""Options of `deploy kserve`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from refine_export.deploy.triton.deploy_options import bad_option, check_choice, check_range

_SCHEMES: Final = ("s3", "gs", "pvc", "hdfs", "webhdfs", "http", "https", "oci", "hf")
"""Schemes that KServe's storage initializer reads (SupportedStorageURIPrefixList)."""


@dataclass(frozen=True, kw_only=True)
class KServeOptions:
    """How a cluster serves a repository."""

    storage_uri: str
    """Where the repository was copied to, such as s3://bucket/models."""
    name: str | None = None
    """Name of the service; default: interpolate, or the first model's."""
    release: str | None = None
    """Release of Triton, such as 26.06; default: the newest that is known to run all plans."""
    gpus: int = 1
    """GPUs of each replica."""
    min_replicas: int = 1
    """Smallest number of replicas; 0: none while there are no requests."""
    max_replicas: int = 4
    """Largest number of replicas."""
    concurrency: int = 4
    """Concurrent requests at a replica before one more is started."""
    protocol: Literal["grpc", "http"] = "grpc"
    """grpc or http: Knative opens one port."""

    def __post_init__(self) -> None:
        scheme, separator, rest = self.storage_uri.partition("://")
        if scheme not in _SCHEMES or not separator or not re.fullmatch(r"[!-~]+", rest):
            expected = f"a place that KServe reads, such as s3://bucket/models ({', '.join(_SCHEMES)})"
            raise bad_option("storage_uri", self.storage_uri, expected)
        if self.name is not None and not re.fullmatch(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?", self.name):
            raise bad_option("name", self.name, "at most 50 small letters, digits and dashes, with a letter first")
        if self.release is not None and not re.fullmatch(r"[0-9]{2}\.(0[1-9]|1[0-2])", self.release):
            raise bad_option("release", self.release, "a year and a month, such as 26.06")
        check_range("gpus", self.gpus, 0, 16)
        check_range("max_replicas", self.max_replicas, 1, 1000)
        check_range("min_replicas", self.min_replicas, 0, self.max_replicas)
        check_range("concurrency", self.concurrency, 1, 1000)
        check_choice("protocol", self.protocol, ("grpc", "http"))
