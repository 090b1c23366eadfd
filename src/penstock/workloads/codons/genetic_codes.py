"""The NCBI genetic codes: the meaning of each codon, by table number.

Facts from the NCBI's list of genetic codes (gc.prt); numbers 7, 8 and 17 to 20 were withdrawn.
Where a codon is both a stop and an amino acid (tables 27, 28, 31) the amino acid is given.
"""

from __future__ import annotations

from penstock.errors import UsageError

_ORDER = [a + b + c for a in "TCAG" for b in "TCAG" for c in "TCAG"]
_STANDARD = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"

# Name, and what is different from the standard code.
_CODES: dict[int, tuple[str, dict[str, str]]] = {
    1: ("Standard", {}),
    2: ("Vertebrate mitochondrial", {"*": "AGA AGG", "M": "ATA", "W": "TGA"}),
    3: ("Yeast mitochondrial", {"M": "ATA", "T": "CTT CTC CTA CTG", "W": "TGA"}),
    4: ("Mold, protozoan and coelenterate mitochondrial; Mycoplasma, Spiroplasma", {"W": "TGA"}),
    5: ("Invertebrate mitochondrial", {"M": "ATA", "S": "AGA AGG", "W": "TGA"}),
    6: ("Ciliate, dasycladacean and hexamita nuclear", {"Q": "TAA TAG"}),
    9: ("Echinoderm and flatworm mitochondrial", {"N": "AAA", "S": "AGA AGG", "W": "TGA"}),
    10: ("Euplotid nuclear", {"C": "TGA"}),
    11: ("Bacterial, archaeal and plant plastid", {}),
    12: ("Alternative yeast nuclear", {"S": "CTG"}),
    13: ("Ascidian mitochondrial", {"G": "AGA AGG", "M": "ATA", "W": "TGA"}),
    14: ("Alternative flatworm mitochondrial", {"N": "AAA", "S": "AGA AGG", "W": "TGA", "Y": "TAA"}),
    15: ("Blepharisma macronuclear", {"Q": "TAG"}),
    16: ("Chlorophycean mitochondrial", {"L": "TAG"}),
    21: ("Trematode mitochondrial", {"M": "ATA", "N": "AAA", "S": "AGA AGG", "W": "TGA"}),
    22: ("Scenedesmus obliquus mitochondrial", {"*": "TCA", "L": "TAG"}),
    23: ("Thraustochytrium mitochondrial", {"*": "TTA"}),
    24: ("Pterobranchia mitochondrial", {"K": "AGG", "S": "AGA", "W": "TGA"}),
    25: ("Candidate division SR1 and Gracilibacteria", {"G": "TGA"}),
    26: ("Pachysolen tannophilus nuclear", {"A": "CTG"}),
    27: ("Karyorelict nuclear", {"Q": "TAA TAG", "W": "TGA"}),
    28: ("Condylostoma nuclear", {"Q": "TAA TAG", "W": "TGA"}),
    29: ("Mesodinium nuclear", {"Y": "TAA TAG"}),
    30: ("Peritrich nuclear", {"E": "TAA TAG"}),
    31: ("Blastocrithidia nuclear", {"E": "TAA TAG", "W": "TGA"}),
    32: ("Balanophoraceae plastid", {"W": "TAG"}),
    33: ("Cephalodiscidae mitochondrial", {"K": "AGG", "S": "AGA", "W": "TGA", "Y": "TAA"}),
}

# Codons that are both stop and amino acid, by where they stand.
_DUAL = {27: "TGA", 28: "TAA TAG TGA", 31: "TAA TAG"}


def numbers() -> list[int]:
    """The numbers of all tables."""
    return list(_CODES)


def name(number: int) -> str:
    """A table's title."""
    return _CODES[number][0]


def dual(number: int) -> frozenset[str]:
    """The codons that are both a stop and an amino acid."""
    return frozenset(_DUAL.get(number, "").split())


def translation(number: int) -> dict[str, str]:
    """The amino acid of each of the 64 codons, one letter; ``*`` for a stop.

    Raises:
        UsageError: no table of that number.
    """
    if number not in _CODES:
        known = ", ".join(map(str, _CODES))
        raise UsageError(f"no genetic code has the number {number}; the NCBI's tables: {known}")
    meaning = dict(zip(_ORDER, _STANDARD, strict=True))
    for amino_acid, codons in _CODES[number][1].items():
        meaning.update(dict.fromkeys(codons.split(), amino_acid))
    return meaning
