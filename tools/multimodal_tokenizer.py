"""Train the tokenizer that the multimodal workload ships, on made-up notes and its knowledge base.

    python benchmarks/multimodal/make_input.py /tmp/tree --subjects 3000 --distinct-images 1 --scale 0.01
    python tools/multimodal_tokenizer.py /tmp/tree src/penstock/workloads/multimodal/data/tokenizer.json

A byte-level BPE of at most 4,000 words. The same tree gives the same file with the same tokenizers package.
"""

import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from penstock.workloads.multimodal import layout, notes, retriever
from penstock.workloads.multimodal.joining import Rules, join

WORDS = 4000
SPECIAL = ["[pad]", "[unk]", "[sep]", "[deid]"]


def texts(root):
    found = layout.find(root)
    for row in join(found, Rules(window=24 * 3600)).records.to_pylist():
        path = found.reports / layout.report_path(row["subject_id"], row["study_id"])
        yield notes.write_note(row, notes.question(notes.read_report(path)[0]), "off").text
    for entry in retriever.read_knowledge():
        yield entry.text


def main(root, out):
    tokenizer = Tokenizer(models.BPE(unk_token="[unk]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(sorted(set(texts(root))), trainer)
    Path(out).write_text(tokenizer.to_str(pretty=False) + "\n", encoding="utf-8")
    print(f"{tokenizer.get_vocab_size()} words, {Path(out).stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
