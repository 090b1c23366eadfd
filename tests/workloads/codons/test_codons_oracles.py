"""The genetic codes beside Biopython's, which are made of the NCBI's own list."""

import pytest
from Bio.Data.CodonTable import unambiguous_dna_by_id

from penstock.workloads.codons import genetic_codes


def test_the_tables_are_those_that_biopython_has():
    assert set(genetic_codes.numbers()) == set(unambiguous_dna_by_id)


@pytest.mark.parametrize("number", genetic_codes.numbers())
def test_each_codon_means_what_biopython_says(number):
    theirs = unambiguous_dna_by_id[number]
    ours = genetic_codes.translation(number)
    assert {codon: letter for codon, letter in ours.items() if letter != "*"} == theirs.forward_table
    stops = {codon for codon, letter in ours.items() if letter == "*"}
    assert stops | genetic_codes.dual(number) == set(theirs.stop_codons)
    assert genetic_codes.dual(number) == set(theirs.stop_codons) & set(theirs.forward_table)
