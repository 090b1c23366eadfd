"""Bits of a position's verdict.

Apart from the kernel, so that reading them does not load the compiler.
"""

VARIES = 1
"""It passed the first filter."""
MINOR_LOST = 2
"""Without the dropped samples its minor allele is gone, or its major one is never doubted."""
LOW_QUALITY = 4
"""The strands do not agree on its minor allele."""
SWITCH = 8
"""It asks for the filter of low depth."""
UNKNOWN = 1 << 15
"""It was set aside, or is behind the last one."""

# Without the filter of low depth; shifted by 4 with it.
CALLED = 16
"""Two alleles among the calls."""
ALLELES = 32
"""Two alleles are left after the filter of big depth."""
STRONG = 64
"""A gap by itself."""
WEAK = 128
"""A gap where others are near."""
