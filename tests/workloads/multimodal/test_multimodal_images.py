"""Films: what is decoded, how close to a whole decode, and why a file is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from penstock.workloads.multimodal import headers, images, layout
from penstock.workloads.multimodal.headers import BadImage, read_header
from penstock.workloads.multimodal.images import Drawing, draw


def film(height=900, width=760, seed=0):
    """A smooth picture with some grain, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    smooth = 120 + 90 * np.sin(6 * x) * np.cos(5 * y) + rng.normal(0, 3, (height, width))
    return np.clip(smooth, 0, 255).astype(np.uint8)


def coded(array, kind="JPEG", mode=None, **options):
    picture = Image.fromarray(array)
    out = io.BytesIO()
    (picture if mode is None else picture.convert(mode)).save(out, kind, **options)
    return out.getvalue()


def whole(data, size):
    """A whole decode in colours, resized, then grey: what the published program does."""
    picture = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture)[..., 0]


def reason(data, how=None):
    with pytest.raises(BadImage) as caught:
        draw(data, how or Drawing(size=32))
    return caught.value.reason


def drawn_or_reason(data):
    try:
        return draw(data, Drawing(size=32))
    except BadImage as error:
        return error.reason


@pytest.mark.parametrize("shape", [(3056, 2544), (2544, 3056), (900, 760)])
def test_a_scaled_decode_is_at_most_two_grey_levels_from_a_whole_one(shape):
    data = coded(film(*shape), quality=95)
    scaled = draw(data, Drawing(size=518)).image.astype(int)
    difference = np.abs(scaled - whole(data, 518))
    assert difference.max() <= 2
    assert difference.mean() <= 0.3


def test_a_scaled_decode_differs_by_more_only_at_hard_edges():
    """A side marker, as films have: its edge is where a decoder's own scaling and a filter differ."""
    marked = film(3056, 2544)
    marked[300:490, 200:245] = marked[450:490, 200:330] = 250
    data = coded(marked, quality=95)
    difference = np.abs(draw(data, Drawing(size=518)).image.astype(int) - whole(data, 518))
    assert difference.max() <= 32
    assert (difference > 2).mean() < 0.005
    assert difference.mean() <= 0.3


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_a_half_mask_leaves_the_picture_as_it_is(fit):
    pytest.importorskip("cv2")
    marked = film(3056, 2544)
    marked[300:490, 200:245] = marked[450:490, 200:330] = 250
    data = coded(marked, quality=95)
    plain, masked = (draw(data, Drawing(size=518, fit=fit, mask=mask)).image for mask in ("none", "half"))
    assert np.abs(plain.astype(int) - masked).max() <= 2


@pytest.mark.parametrize("shape", [(3056, 2544), (2544, 2200), (3055, 2541), (2000, 1700), (3300, 3300)])
def test_a_film_for_a_half_mask_is_resized_as_pillow_does_it(shape):
    """OpenCV halves it where Pillow would begin so; other sizes, and odd ones, are left to Pillow."""
    pytest.importorskip("cv2")
    data = coded(film(*shape), quality=95)
    picture = Image.open(io.BytesIO(data))
    picture.draft("L", (max(518, shape[1] // 2), max(518, shape[0] // 2)))
    expected = picture.resize((518, 518), Image.Resampling.BILINEAR, reducing_gap=1.0)
    assert np.array_equal(draw(data, Drawing(size=518, mask="half")).image, np.asarray(expected))


def test_an_exact_resize_is_that_of_a_whole_decode():
    data = coded(film(), quality=95)
    assert np.array_equal(draw(data, Drawing(size=518, exact=True)).image, whole(data, 518))


def test_progressive_films_are_the_same_picture():
    plain, progressive = (coded(film(), quality=95, progressive=each) for each in (False, True))
    assert np.array_equal(draw(plain, Drawing()).image, draw(progressive, Drawing()).image)
    assert not read_header(plain).progressive
    assert read_header(progressive).progressive
    assert read_header(progressive).memory > 3 * 900 * 760 // 2


def test_filling_and_markers_without_a_length_are_skipped():
    data = coded(film(), quality=95)
    odd = data[:2] + b"\xff\xff\xff\x01" + b"\xff\xd0" + data[2:]
    assert read_header(odd) == read_header(data)
    assert (read_header(data).height, read_header(data).width) == film().shape


def test_a_header_is_whole_or_it_is_none():
    data = coded(film(), quality=95)
    found = [read_header(data[:length]) for length in range(2, 1000)]
    assert found[0] is None
    assert {*found} == {None, read_header(data)}
    assert found == sorted(found, key=lambda each: each is not None)


def test_junk_behind_the_end_is_not_looked_at():
    data = coded(film(), quality=95)
    assert np.array_equal(draw(data + b"junk" * 1000, Drawing()).image, draw(data, Drawing()).image)


def test_sixteen_bits_are_scaled_never_clipped():
    ramp = np.linspace(0, 65535, 256 * 256).reshape(256, 256).astype(np.uint16)
    drawn = draw(coded(ramp, "PNG"), Drawing(size=256))
    assert np.array_equal(drawn.image, (ramp >> 8).astype(np.uint8))
    assert drawn.facts["bits_stored"] == 16


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_sixteen_use_all_grey_levels(bits):
    ramp = np.linspace(0, (1 << bits) - 1, 256 * 256).reshape(256, 256).astype(np.uint16)
    drawn = draw(coded(ramp, "PNG"), Drawing(size=256))
    assert drawn.facts["bits_stored"] == bits
    assert (int(drawn.image.min()), int(drawn.image.max()), len(np.unique(drawn.image))) == (0, 255, 256)


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "P", "LA", "RGBA", "1"])
def test_colours_become_grey_and_are_told(mode):
    kind = "JPEG" if mode in ("RGB", "CMYK") else "PNG"
    array = film() if mode != "1" else np.where(film() > 120, 255, 0).astype(np.uint8)
    drawn = draw(coded(array, kind, mode), Drawing(size=128))
    assert drawn.facts["colour_source"] == mode
    grey = np.asarray(Image.fromarray(array).resize((128, 128), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(drawn.image - grey).mean() < 3


def test_orientation_is_ignored_and_told():
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn = draw(coded(film(), exif=exif), Drawing(size=64))
    assert drawn.facts["exif_orientation_ignored"] == 6
    assert np.array_equal(drawn.image, draw(coded(film()), Drawing(size=64)).image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 2), (600, 600)])
@pytest.mark.parametrize("fit", images.FITS)
def test_odd_shapes_are_drawn(shape, fit):
    drawn = draw(coded(np.full(shape, 90, np.uint8)), Drawing(size=64, fit=fit))
    assert drawn.image.shape == (64, 64)
    assert (drawn.facts["height"], drawn.facts["width"]) == shape


def test_padding_keeps_the_shape():
    drawn = draw(coded(np.full((400, 200), 200, np.uint8), "PNG"), Drawing(size=100, fit="pad")).image
    assert not drawn[:, :25].any()
    assert not drawn[:, 75:].any()
    assert (drawn[:, 25:75] == 200).all()


def bomb(width, height):
    """A PNG of some bytes that says it is huge."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def test_what_is_no_film_is_refused_with_the_reason(tmp_path):
    data, png = coded(film(), quality=95), coded(film(), "PNG")
    assert reason(b"") == "image_empty"
    assert reason(b"<html><body>403 Forbidden</body></html>\n") == "image_not_image"
    assert reason(coded(film(), "GIF")) == "image_not_image"
    assert reason(bytes(128) + b"DICM" + bytes(500)) == "image_is_dicom"
    assert reason(data[: len(data) * 6 // 10]) == "image_truncated"
    assert reason(data[:-2000]) == "image_truncated"
    assert reason(data[:20]) == "image_truncated"
    assert reason(png[: len(png) // 2]) == "image_truncated"
    assert reason(png[:20]) == "image_truncated"
    assert reason(b"\xff\xd8" + b"\x00" * 100) == "image_damaged"
    assert reason(b"\xff\xd8\xff\xd9") == "image_truncated"
    assert reason(bomb(65_000, 65_000)) == "image_too_large"
    assert reason(bomb(0, 10)) == "image_damaged"
    assert reason(bomb(10, 10)) in ("image_damaged", "image_truncated")
    for path, expected in ((tmp_path / "none", "image_missing"), (tmp_path, "image_unreadable")):
        with pytest.raises(BadImage) as caught:
            images.read_image(str(path))
        assert caught.value.reason == expected


def test_a_jpeg_that_says_it_is_huge_is_refused_before_it_is_decoded():
    data = bytearray(coded(film()))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    assert reason(bytes(data)) == "image_too_large"


@pytest.mark.parametrize(("channels", "bits"), [(0, 8), (2, 8), (255, 8), (3, 0), (3, 12), (3, 255)])
def test_what_no_decoder_takes_is_damaged_and_neither_weightless_nor_too_heavy(channels, bits):
    """Films are planned by their headers: a broken one must not be set aside for want of memory."""
    data = bytearray(coded(film(300, 200), progressive=True))
    start = data.index(b"\xff\xc2")
    data[start + 4], data[start + 9] = bits, channels
    with pytest.raises(BadImage, match="image_damaged"):
        read_header(bytes(data))
    if channels == 3:
        grey = bytearray(coded(film(60, 40), "PNG"))
        grey[24] = bits
        with pytest.raises(BadImage, match="image_damaged"):
            read_header(bytes(grey))


def test_flipped_bytes_are_a_picture_or_a_reason_and_never_a_crash():
    rng = np.random.default_rng(3)
    data = coded(film(300, 200), quality=90)
    for kind in (data, coded(film(60, 40), "PNG"), coded(film(300, 200), progressive=True)):
        for _ in range(150):
            broken = bytearray(kind)
            for at in rng.integers(2, len(kind), 8):
                broken[at] ^= int(rng.integers(1, 256))
            found = drawn_or_reason(bytes(broken))
            told = found.startswith("image_") if isinstance(found, str) else found.image.shape == (32, 32)
            assert told, "a reason, or a picture"


def test_nothing_is_made_up_for_a_truncated_film():
    from PIL import ImageFile

    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_every_film_of_the_sample_is_what_the_oracle_says(sample, oracle):
    """Kind and mode of those that can be decoded, and the reason of those that cannot."""
    reasons = {"missing": "image_missing", "zero_byte": "image_empty", "not_an_image": "image_not_image",
               "truncated": "image_truncated"}  # fmt: skip
    root = layout.find(str(sample)).films
    statuses = {}
    for row in oracle["frontal_status"]:
        path = root / layout.film_path(int(row["subject_id"]), int(row["study_id"]), row["dicom_id"])
        found = drawn_or_reason(path.read_bytes()) if path.exists() else "image_missing"
        if isinstance(found, str):
            assert found == reasons[row["image"]]
        else:
            bits = "I;16" if "bits_stored" in found.facts else found.facts.get("colour_source", "L")
            assert row["image"] == f"ok:{read_header(path.read_bytes()).kind}:{bits}"
        statuses[row["image"]] = statuses.get(row["image"], 0) + (row["joined"] == "True")
    counts = oracle["counts"]["joined_image_status"]
    assert {name: count for name, count in statuses.items() if count} == counts
    assert sum(statuses.values()) == oracle["counts"]["joined"]


# ------------------------------------------------------------------ masks


def published_mask(grey):
    """The recipe, step by step, at the size of the film."""
    cv2 = pytest.importorskip("cv2")
    equal = cv2.createCLAHE(2.0, (8, 8)).apply(grey)
    contours, _ = cv2.findContours(cv2.Canny(equal, 50, 150), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    mask = np.zeros(grey.shape, np.uint8)
    for contour in contours:
        if cv2.contourArea(contour) > 100:
            cv2.fillPoly(mask, [contour], 1)
    return mask


def marked(height=1000, width=800):
    """A film with a marker and a wire."""
    array = film(height, width)
    array[100:200, 80:120] = 255
    array[500:520, 300:700] = 250
    return array


def test_a_full_mask_is_the_published_one():
    data = coded(marked(), quality=95)
    drawn = draw(data, Drawing(size=1000, mask="full", fit="pad"))
    expected = published_mask(np.asarray(Image.open(io.BytesIO(data))))
    assert expected.any()
    assert np.array_equal(drawn.mask[:, 100:900], expected.astype(bool))
    assert drawn.facts["mask_reference_size"] == [1000, 800]


def test_a_half_mask_is_made_at_half_the_size():
    data = coded(marked(2000, 1600), quality=95)
    full, half = (draw(data, Drawing(size=518, mask=kind)) for kind in ("full", "half"))
    assert half.facts["mask_reference_size"] == [1000, 800]
    both, either = (full.mask & half.mask).sum(), (full.mask | half.mask).sum()
    assert both / either > 0.6
    assert np.abs(half.image.astype(int) - whole(data, 518)).mean() <= 0.3


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3, 2), (40, 7)])
@pytest.mark.parametrize("mask", ["half", "full"])
def test_odd_shapes_have_masks_too(shape, mask):
    drawn = draw(coded(np.full(shape, 90, np.uint8)), Drawing(size=16, mask=mask))
    assert drawn.mask.shape == (16, 16)
    assert "mask_ok" in drawn.facts


def test_a_mask_that_cannot_be_made_is_empty_and_told(monkeypatch):
    cv2 = pytest.importorskip("cv2")

    def fail(*_, **__):
        raise cv2.error("no")

    monkeypatch.setattr(cv2, "Canny", fail)
    drawn = draw(coded(film()), Drawing(size=16, mask="full"))
    assert not drawn.mask.any()
    assert drawn.facts["mask_ok"] is False


def test_a_flat_film_has_an_empty_mask():
    drawn = draw(coded(np.full((300, 300), 90, np.uint8)), Drawing(size=64, mask="full"))
    assert not drawn.mask.any()


def test_memory_is_told_from_the_header_before_decoding():
    header = headers.Header("JPEG", 2544, 3056, 1, 8, progressive=True)
    assert header.memory > 15e6
    assert headers.Header("JPEG", 2544, 3056, 1, 8, progressive=False).memory < 4e6
