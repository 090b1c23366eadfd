"""Independent, slow ways to the same answers, written from the rules and not from the code."""

import numpy as np

BASES = "ATCG"


def network(x, w):
    """The network's probability of one position, (samples, 8, 4), by plain convolutions in float64."""

    def convolution(image, kernel, bias, rows, columns):
        padded = np.pad(image, ((0, 0), (rows, rows), (columns, columns)))
        _, _, height, width = kernel.shape
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
        summed = np.einsum("ihwab,oiab->ohw", windows, kernel.astype(np.float64))
        return np.maximum(summed + bias[:, None, None], 0)

    image = x.transpose(2, 0, 1).astype(np.float64)
    image = convolution(image, w["conv1.weight"], w["conv1.bias"], 1, 1)
    image = convolution(image, w["conv2.weight"], w["conv2.bias"], 1, 0)
    image = convolution(image, w["conv3.weight"], w["conv3.bias"], 1, 0)
    hidden = np.maximum(w["fc1.weight"] @ image.mean(axis=(1, 2)) + w["fc1.bias"], 0)
    return float(1 / (1 + np.exp(-(w["fc2.weight"] @ hidden + w["fc2.bias"])[0])))


def sorted_bases(reads):
    """Codes 1 to 4 in a stable ascending sort of the reads of both strands."""
    return [b + 1 for b in sorted(range(4), key=lambda b: reads[b] + reads[b + 4])]


def major(reads):
    return sorted_bases(reads)[-1] if sum(reads) else 0


def frequencies(codes):
    """(code, count), most frequent first, the smaller code first among equals."""
    present = sorted(set(codes) - {0})
    return sorted(((c, codes.count(c)) for c in present), key=lambda each: -each[1])


def carriers(counts):
    """(positions, 8, samples) -> how often each sample has the second most frequent major base."""
    carried = [0] * counts.shape[2]
    for position in counts.tolist():
        codes = [major([plane[s] for plane in position]) for s in range(counts.shape[2])]
        found = frequencies(codes)
        if len(found) < 2:
            continue
        second = min(code for code, count in found if count == found[1][1])
        for s, code in enumerate(codes):
            carried[s] += code == second
    return carried


def supported(position):
    """Whether the reads of a position, (8, samples) of all samples, speak for it: rule 2.9 of the tool."""
    samples = [[int(plane[s]) for plane in position] for s in range(len(position[0]))]
    codes = [major(reads) for reads in samples]
    found = frequencies(codes)
    mode = found[0][0] if found else 1
    second = found[1][0] if len(found) > 1 else 0
    of_mode = [reads for reads, code in zip(samples, codes, strict=True) if code == mode]
    if not of_mode:
        return False
    pure = [max(a + b for a, b in zip(r[:4], r[4:], strict=True)) / sum(r) for r in of_mode]
    ambiguous = sum(share < 0.95 for share in pure) / len(of_mode)
    others = [max(reads) for reads, code in zip(samples, codes, strict=True) if code != mode]
    noise = [max(sorted(r[:4])[-2], sorted(r[4:])[-2]) for r in of_mode if sorted_bases(r)[2] == second]
    b = max(noise, default=0)
    b += 2 if b > 2 else 0
    return ambiguous <= (0.1 if len(samples) > 20 else 0.25) and not max(others, default=0) < b
