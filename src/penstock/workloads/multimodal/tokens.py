"""Tokenises texts with a tokenizer from a JSON file; the shipped one is a byte-level BPE, for any text.

It was trained by ``tools/multimodal_tokenizer.py``, never at run time: a training may give other words.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import foreign
from penstock.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHIPPED = Path(__file__).parent / "data" / "tokenizer.json"
_LARGEST = 64 << 20


class Tokens:
    """A tokenizer.

    Args:
        path: of its JSON file; None for the shipped one.
        longest: numbers of a text at most.

    Raises:
        BadInput: it is no tokenizer.

    Attributes:
        size: how many words it knows.
        digest: of the file, for the manifest.
    """

    def __init__(self, path: str | None, longest: int) -> None:
        from tokenizers import Tokenizer

        file = SHIPPED if path is None else Path(path)
        try:
            text = foreign.read_text(file, _LARGEST)
            self._tokenizer: Any = Tokenizer.from_str(text)
        except Exception as error:  # the library raises plain Exception for what is no tokenizer
            what = error.strerror if isinstance(error, OSError) else "no JSON of the tokenizers library"
            raise BadInput(f"is no tokenizer: {what}", file=file, quotes_nothing=True) from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._longest = longest
        self.size: int = self._tokenizer.get_vocab_size()
        self.digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def encode(self, text: str) -> NDArray[np.int32]:
        """The token ids of a text, int32 (tokens,), not padded; long texts are truncated."""
        return np.array(self._tokenizer.encode(text).ids[: self._longest], np.int32)
