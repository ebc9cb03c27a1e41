"""Checksums of FFV1: FFmpeg replaces a damaged slice by that of the frame before, and marks nothing.

A frame of version 3 is a row of slices, each of which ends with its size (3 bytes) and, where checksums are on, a
status byte and a CRC-32 over the whole slice that makes the remainder 0 (RFC 9043, sections 4.8 and 4.9).
"""

import zlib

TRAILER = 8
"""Bytes behind the content of a slice with a checksum."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # the CRC counts the highest bit first


def is_intact(frame: bytes) -> bool:
    """Return whether all checksums of a frame are right; True for frames without."""
    end, slices = len(frame), []
    while end:
        start = end - TRAILER - int.from_bytes(frame[max(0, end - TRAILER) : end][:3], "big")
        if start < 0:
            break
        slices.append(frame[start:end])
        end = start
    if end:  # the sizes do not add up: versions without checksums
        return True
    return all(zlib.crc32(one.translate(_REVERSED), 0xFFFFFFFF) == 0xFFFFFFFF for one in slices)
