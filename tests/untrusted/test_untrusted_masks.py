from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw, ImageFilter

from scenegen.errors import InputError
from scenegen.ids import UNKNOWN
from scenegen.inputs.options import InputOptions
from scenegen.inputs.photos import companions
from scenegen.untrusted.fit import turned
from scenegen.untrusted.masks import read_masks
from scenegen.untrusted.masks.ids import ROWS, border_share, distinct
from scenegen.untrusted.masks.layers import MOST
from scenegen.untrusted.masks.outlines import edge_ratio
from scenegen.untrusted.masks.rle import mask_of_runs
from scenegen.untrusted.photo import UprightPhoto
from scenegen.untrusted.resample import nearest

RED, GREEN, BLUE, BLACK, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)
WIDTH, HEIGHT = 96, 64


def photo_of(width: int, height: int, scale: float = 1.0, transpose: Image.Transpose | None = None) -> UprightPhoto:
    """A photo of `width` x `height` upright pixels; stored on its side where there is a `transpose`."""
    rgb = Image.new("RGB", (round(width * scale), round(height * scale)))
    stored = (width, height) if transpose is None else (height, width)
    return UprightPhoto(rgb, None, stored, transpose, (width, height), None, ())


def boxes(background: object, **colours: object) -> np.ndarray:
    """30 x 20: `left` fills the left third, `right` the right third, the rest is `background`."""
    pixels = np.empty((20, 30, *np.shape(background)), np.uint16 if np.ndim(background) == 0 else np.uint8)
    pixels[:] = background
    pixels[:, :10] = colours.get("left", background)
    pixels[:, 20:] = colours.get("right", background)
    return pixels


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    Image.fromarray(pixels, mode).save(path, **options)
    return path


def read(path: Path | list[Path], photo: UprightPhoto | None = None, **options) -> tuple[np.ndarray, tuple[str, ...]]:
    masks = read_masks(path if isinstance(path, list) else [path], photo or photo_of(30, 20), **options)
    assert masks.ids.dtype == np.uint16
    return masks.ids, masks.notes


def drawn(*shapes: tuple[tuple[int, int, int, int], object], background: object = 0, scale: int = 1) -> Image.Image:
    """A picture of `WIDTH` x `HEIGHT` with discs and boxes: each a box, and a value; a box is drawn if it begins in column 0."""
    mode = "L" if isinstance(background, int) else "RGB"
    picture = Image.new(mode, (WIDTH * scale, HEIGHT * scale), background)
    for box, value in shapes:
        pen = ImageDraw.Draw(picture)
        scaled = tuple(scale * side for side in box)
        pen.rectangle(scaled, fill=value) if box[0] == 0 else pen.ellipse(scaled, fill=value)
    return picture


MUG, BOWL, BOX = (10, 10, 34, 40), (50, 20, 86, 56), (40, 4, 60, 16)
OWN = photo_of(WIDTH, HEIGHT)


def mask(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    return np.asarray(drawn(*((box, 255) for box in boxes))) > 0


def ids_of(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    return np.asarray(drawn(*((box, number) for number, box in enumerate(boxes, start=1)))).astype(np.uint16)


def counts(pixels: np.ndarray) -> list[int]:
    """COCO's run lengths, by going through the columns one pixel after the other."""
    found, value = [0], False
    for pixel in pixels.T.ravel():
        if bool(pixel) != value:
            found.append(0)
            value = not value
        found[-1] += 1
    return found


def compressed(runs: list[int]) -> str:
    """As pycocotools' rleToString writes them."""
    text = ""
    for index, run in enumerate(runs):
        x = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            group = x & 31
            x >>= 5
            more = x != -1 if group & 16 else x != 0
            text += chr(group + (32 if more else 0) + 48)
    return text


def test_grey_values_are_ids(tmp_path):
    path = save(tmp_path / "m.png", boxes(0, left=7, right=200).astype(np.uint8))
    ids, warnings = read(path)
    np.testing.assert_array_equal(ids, boxes(0, left=7, right=200))
    assert ids.dtype == np.uint16
    assert warnings == ()


def test_16_bit_values_are_ids(tmp_path):
    path = save(tmp_path / "m.png", boxes(0, left=300, right=65534))
    ids, _ = read(path)
    np.testing.assert_array_equal(ids, boxes(0, left=300, right=65534))


def test_unknown_stays_unknown_so_that_the_masks_of_a_scene_can_be_given_back(tmp_path):
    path = save(tmp_path / "m.png", boxes(0, left=3, right=UNKNOWN))
    ids, warnings = read(path)
    np.testing.assert_array_equal(ids, boxes(0, left=3, right=UNKNOWN))
    assert warnings == ()


def test_65535_of_other_tools_is_the_last_of_stretched_ids_or_said_to_be_unknown(tmp_path):
    stretched = save(
        tmp_path / "m.png", boxes(0, left=21845, right=UNKNOWN) + 21845 * (np.arange(30) == 15).astype(np.uint16) * 2
    )
    ids, notes = read(stretched)
    assert ids[0, [0, 15, 29]].tolist() == [1, 2, 3]
    assert "stretched" in notes[0]
    ids, notes = read(save(tmp_path / "n.png", boxes(0, left=300, right=UNKNOWN)))
    assert ids[0, [0, 29]].tolist() == [300, UNKNOWN]
    assert "unknown" in notes[0]


def test_white_on_black_in_16_bits_is_one_object(tmp_path):
    path = save(tmp_path / "m.png", boxes(0, left=65535))
    np.testing.assert_array_equal(read(path)[0], boxes(0, left=1))


def test_one_bit_is_one_object(tmp_path):
    Image.fromarray(boxes(0, right=255).astype(np.uint8)).convert("1").save(tmp_path / "m.png")
    ids, _ = read(tmp_path / "m.png")
    np.testing.assert_array_equal(ids, boxes(0, right=1))


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp"])
def test_palette_indices_are_ids_whatever_their_colours(tmp_path, suffix):
    picture = Image.fromarray(boxes(0, left=2, right=1).astype(np.uint8), "P")
    picture.putpalette([*BLUE, *RED, *GREEN])
    picture.save(tmp_path / f"m.{suffix}")
    ids, _ = read(tmp_path / f"m.{suffix}")
    np.testing.assert_array_equal(ids, boxes(0, left=2, right=1))


def test_colours_become_ids_in_order_of_first_appearance(tmp_path):
    path = save(tmp_path / "m.png", boxes(BLACK, left=RED, right=GREEN))
    ids, _ = read(path)
    np.testing.assert_array_equal(ids, boxes(0, left=1, right=2))
    path = save(tmp_path / "n.png", boxes(BLACK, left=GREEN, right=RED)[:, ::-1])
    ids, _ = read(path)
    np.testing.assert_array_equal(ids, boxes(0, left=1, right=2))


def test_transparent_colours_are_no_object(tmp_path):
    path = save(tmp_path / "m.png", boxes((*RED, 0), left=(*RED, 255), right=(*BLUE, 128)))
    ids, _ = read(path)
    np.testing.assert_array_equal(ids, boxes(0, left=1, right=2))


def test_a_photo_is_no_mask(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    with pytest.raises(InputError, match=r"more than 254 ids or colours.*as PNG"):
        read(save(tmp_path / "m.png", pixels))


def test_a_jpeg_of_ids_is_refused_but_not_one_of_black_and_white(tmp_path):
    drawn((MUG, 120), (BOWL, 200)).save(tmp_path / "ids.jpg")
    with pytest.raises(InputError, match=r"is a JPEG.*as PNG"):
        read(tmp_path / "ids.jpg", OWN)
    drawn((BOWL, 255)).save(tmp_path / "one.jpg", quality=70)
    ids, _ = read(tmp_path / "one.jpg", OWN)
    assert (ids == mask(BOWL)).mean() > 0.995


def test_one_picture_per_object_earlier_ones_stay_in_front(tmp_path):
    opaque = save(tmp_path / "1.png", boxes(0, left=3).astype(np.uint8))
    cut_out = save(tmp_path / "2.png", boxes((*RED, 127), left=(*BLACK, 255), right=(*BLACK, 128)))
    coloured = save(tmp_path / "3.png", boxes(BLACK, left=(0, 0, 1)) + boxes(BLACK, right=(0, 0, 1)))
    paths = [opaque, cut_out, coloured]
    ids, warnings = read(paths, labels=("cup", "plate", "shelf"))
    np.testing.assert_array_equal(ids, boxes(0, left=1, right=2))
    assert warnings[0].startswith("masks: picture 3 shows the same object as picture 2")


def test_opaque_alpha_says_nothing_about_the_object(tmp_path):
    paths = [
        save(tmp_path / "1.png", boxes((*BLACK, 255), left=(9, 9, 9, 255))),
        save(tmp_path / "2.png", boxes(0, right=1000)),
    ]
    ids, _ = read(paths, photo_of(30, 20))
    np.testing.assert_array_equal(ids, boxes(0, left=1, right=2))


def test_the_noise_of_a_jpeg_is_not_the_object(tmp_path):
    wide = np.zeros((32, 64), np.uint8)
    wide[:, 5:21] = 255
    paths = [save(tmp_path / f"{n}.jpg", pixels, quality=60) for n, pixels in enumerate([wide, wide[:, ::-1]])]
    ids, _ = read(paths, photo_of(64, 32))
    np.testing.assert_array_equal(ids, (wide > 0) + 2 * (wide[:, ::-1] > 0))


def test_the_same_object_twice_is_one(tmp_path):
    path = save(tmp_path / "1.png", boxes(0, left=1).astype(np.uint8))
    ids, warnings = read([path, path])
    assert np.unique(ids).tolist() == [0, 1]
    assert warnings == ("masks: picture 2 shows the same object as picture 1 and is left out",)


@pytest.mark.parametrize("count", [1, 2])
def test_masks_without_any_object_are_refused(tmp_path, count):
    path = save(tmp_path / "m.png", boxes(BLACK))
    with pytest.raises(InputError, match=r"has no object|the same value everywhere"):
        read([path] * count)


def test_too_many_pictures_are_refused(tmp_path):
    with pytest.raises(InputError, match=f"{MOST + 1} pictures.*at most {MOST}"):
        read([tmp_path / "absent.png"] * (MOST + 1))


def test_another_shape_is_refused_with_both_sizes(tmp_path):
    path = save(tmp_path / "m.png", boxes(0, left=1))
    with pytest.raises(InputError, match="is 30x20 pixels and the photo 60x60"):
        read(path, photo_of(60, 60))


@pytest.mark.parametrize("scale", [0.5, 2])
def test_another_size_of_the_same_shape_is_resampled_and_said(tmp_path, scale):
    path = save(tmp_path / "m.png", boxes(0, left=1, right=4))
    ids, notes = read(path, photo_of(round(30 * scale), round(20 * scale)))
    assert np.unique(ids).tolist() == [0, 1, 4]
    assert notes == (
        f"masks: they are 30x20 and the photo {round(30 * scale)}x{round(20 * scale)}; resampled without mixing",
    )


def test_a_mask_stored_as_the_photo_was_is_turned_like_it(tmp_path):
    upright = boxes(0, left=1, right=2)
    photo = photo_of(30, 20, transpose=Image.Transpose.ROTATE_270)
    for name, pixels in {"upright": upright, "stored": np.rot90(upright)}.items():
        ids, _ = read(save(tmp_path / f"{name}.png", np.ascontiguousarray(pixels)), photo)
        np.testing.assert_array_equal(ids, upright)


def test_ids_do_not_depend_on_the_working_size(tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[0, 0] = RED  # too small to be left at half the size
    pixels[20:, :30] = GREEN
    pixels[20:, 30:] = BLUE
    ids, warnings = read(save(tmp_path / "m.png", pixels), photo_of(60, 40, scale=0.5))
    assert np.unique(ids).tolist() == [0, 2, 3]
    assert warnings == ("masks: at working size no pixel is left of object 1",)
    np.testing.assert_array_equal(ids[10:], np.repeat([2, 3], 15)[None].repeat(10, axis=0))


def test_a_truncated_mask_is_refused(tmp_path):
    path = save(tmp_path / "m.png", np.random.default_rng(0).integers(0, 9, (200, 300), np.uint8))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="id picture of `masks` cannot be read"):
        read(path, photo_of(300, 200))


@given(
    values=arrays.arrays(
        np.uint16, st.tuples(st.integers(1, 2 * ROWS + 9), st.integers(1, 4)), elements=st.integers(0, 30)
    )
)
def test_distinct_is_the_order_of_a_plain_scan(values):
    assert distinct(values) == list(dict.fromkeys(values.ravel().tolist()))


def test_a_folder_of_segment_anything(tmp_path):
    """What its amg.py writes: the background first, then objects, then their parts."""
    inner = (14, 14, 24, 24)
    whole = ~mask(MUG, BOWL)
    paths = [
        save(tmp_path / f"{number}.png", (pixels * 255).astype(np.uint8))
        for number, pixels in enumerate([whole, mask(MUG), mask(BOWL), mask(inner)])
    ]
    ids, notes = read(paths, OWN, names=[path.name for path in paths])
    np.testing.assert_array_equal(ids, ids_of(MUG, BOWL))
    assert "0.png has so much of the picture or of its border that it is background" in notes[0]
    assert "3.png lies within 1.png: an unnamed mask there is a part" in notes[1]
    assert len(notes) == 2


def test_a_named_mask_in_another_is_an_object_before_it(tmp_path):
    inner = (14, 14, 24, 24)
    paths = [save(tmp_path / f"{n}.png", np.uint8(255) * pixels) for n, pixels in enumerate([mask(MUG), mask(inner)])]
    masks = read_masks(paths, OWN, labels=("cup", "spoon"))
    np.testing.assert_array_equal(masks.ids, ids_of(MUG, inner))
    assert (masks.labels, masks.notes) == (("cup", "spoon"), ())


def test_a_named_table_may_have_the_border(tmp_path):
    paths = [save(tmp_path / f"{n}.png", np.uint8(255) * pixels) for n, pixels in enumerate([~mask(MUG), mask(MUG)])]
    assert np.unique(read_masks(paths, OWN, labels=("table", "cup")).ids).tolist() == [1, 2]
    masks = read_masks(paths, OWN, labels=("background", "cup"))
    np.testing.assert_array_equal(masks.ids, ids_of(MUG))
    assert masks.labels == ("cup",)


def test_overlaps_are_said_and_the_first_keeps_them(tmp_path):
    moved = (24, 10, 48, 40)
    paths = [save(tmp_path / f"{n}.png", np.uint8(255) * pixels) for n, pixels in enumerate([mask(MUG), mask(moved)])]
    ids, notes = read(paths, OWN, names=("a.png", "b.png"))
    np.testing.assert_array_equal(ids == 1, mask(MUG))
    assert f"a.png and b.png by {np.count_nonzero(mask(MUG) & mask(moved))} pixels overlap" in notes[0]


@pytest.mark.parametrize("value", [1, 255, "1"])
def test_one_value_for_several_things(tmp_path, value):
    picture = drawn((MUG, 255), (BOWL, 255), ((90, 2, 92, 4), 255))
    if value == 1:
        picture = picture.point([0] + [1] * 255)
    (picture.convert("1") if value == "1" else picture).save(tmp_path / "m.png")
    ids, notes = read(tmp_path / "m.png", OWN)
    np.testing.assert_array_equal(ids > 0, mask(MUG, BOWL, (90, 2, 92, 4)))
    assert [len(np.unique(ids[mask(box)])) for box in (MUG, BOWL)] == [1, 1]
    assert np.unique(ids).tolist() == [0, 1, 2]  # the speck belongs to the nearest
    assert "shows 2 things that do not touch" in notes[0]


def test_an_object_that_another_cuts_in_two_is_one(tmp_path):
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[20:30, 10:80] = 1
    pixels[10:50, 40:50] = 2
    assert read(save(tmp_path / "a.png", pixels), OWN)[1] == ()
    pixels[pixels == 2] = 0
    pixels[50:60, 2:30] = 3
    ids, notes = read(save(tmp_path / "b.png", pixels), OWN)
    np.testing.assert_array_equal(ids, pixels)
    assert "object 1 is in separate pieces" in notes[0]


@pytest.mark.parametrize("background", [WHITE, (30, 60, 90)])
def test_a_coloured_background(tmp_path, background):
    drawn((MUG, RED), (BOWL, BLACK), background=background).save(tmp_path / "m.png")
    ids, notes = read(tmp_path / "m.png", OWN)
    np.testing.assert_array_equal(ids, ids_of(MUG, BOWL))
    assert "so it is the background" in notes[0]


def test_an_inverted_mask(tmp_path):
    drawn((BOWL, 0), background=255).save(tmp_path / "m.png")
    ids, notes = read(tmp_path / "m.png", OWN)
    np.testing.assert_array_equal(ids, ids_of(BOWL))
    assert "it is inverted" in notes[0]
    drawn((MUG, 2), (BOWL, 0), background=7).save(tmp_path / "n.png")
    ids, notes = read(tmp_path / "n.png", OWN)
    np.testing.assert_array_equal(ids, 2 * mask(MUG) + mask(BOWL))
    assert "7 has nearly the whole border of the picture, so it is the background, and 0 is object 1" in notes[0]


def test_what_data_sets_ignore_is_unknown(tmp_path):
    drawn((MUG, 1), (BOWL, 2), (BOX, 255)).save(tmp_path / "m.png")
    ids, notes = read(tmp_path / "m.png", OWN)
    assert (ids[mask(BOX)] == UNKNOWN).all()
    assert "255 counts as unknown" in notes[0]
    drawn((MUG, 100), (BOX, 255)).save(tmp_path / "n.png")
    assert np.unique(read(tmp_path / "n.png", OWN)[0]).tolist() == [0, 100, 255]


@pytest.mark.parametrize("background", [BLACK, WHITE])
def test_smoothed_colours(tmp_path, background):
    large = drawn((MUG, RED), (BOWL, BLUE), (BOX, GREEN), background=background, scale=4)
    large.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(tmp_path / "m.png")
    ids, notes = read(tmp_path / "m.png", OWN)
    assert np.unique(ids).tolist() == [0, 1, 2, 3]
    plain = drawn((MUG, 2), (BOWL, 3), (BOX, 1), scale=4).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
    assert (ids == np.asarray(plain)).mean() > 0.98
    assert any("the picture was smoothed" in note for note in notes)


def test_smoothed_grey_is_one_object(tmp_path):
    drawn((BOWL, 255)).filter(ImageFilter.GaussianBlur(1)).save(tmp_path / "m.png")
    ids, notes = read(tmp_path / "m.png", OWN)
    assert np.unique(ids).tolist() == [0, 1]
    assert (ids == mask(BOWL)).mean() > 0.98
    assert "smoothed" in notes[0]


def test_thin_objects_are_not_taken_for_smoothing(tmp_path):
    picture = Image.new("L", (WIDTH, HEIGHT))
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate([(5, 5, 90, 9), (5, 20, 90, 40), (5, 60, 90, 45), (70, 2, 92, 30)], start=1):
        pen.line(line, fill=number, width=2)
    picture.save(tmp_path / "m.png")
    ids, notes = read(tmp_path / "m.png", OWN)
    np.testing.assert_array_equal(ids, np.asarray(picture))
    assert notes == ()


MASKS = [mask(MUG), mask(BOWL)]
RUNS = [{"size": [HEIGHT, WIDTH], "counts": counts(pixels)} for pixels in MASKS]
TEXTS = [{"size": [HEIGHT, WIDTH], "counts": compressed(counts(pixels))} for pixels in MASKS]
SQUARE = [[50, 20, 86, 20, 86, 56, 50, 56]]


def coco(segmentations: list, **image: object) -> dict:
    return {
        "images": [
            {"id": 7, "file_name": "other.jpg", "width": 9, "height": 9},
            {"id": 8, "file_name": "a/photo.jpg", **image},
        ],
        "categories": [{"id": 3, "name": "coffee mug"}, {"id": 4, "name": "bowl"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[0, 0, 5, 0, 5, 5]]},
            *(
                {"id": 2 + n, "image_id": 8, "category_id": 3 + n, "segmentation": value, "iscrowd": 0}
                for n, value in enumerate(segmentations)
            ),
        ],
    }


@pytest.mark.parametrize("segmentations", [RUNS, TEXTS])
def test_coco(tmp_path, segmentations):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(coco(segmentations, width=WIDTH, height=HEIGHT)))
    masks = read_masks([path], OWN, "photo")
    np.testing.assert_array_equal(masks.ids, ids_of(MUG, BOWL))
    assert (masks.labels, masks.notes) == (("coffee mug", "bowl"), ())
    with pytest.raises(InputError, match="2 images, 0 of them with the name of photo 'third'"):
        read_masks([path], OWN, "third")


def test_coco_polygons_cover_the_pixels_they_enclose_at_any_size(tmp_path):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(coco([SQUARE], width=WIDTH, height=HEIGHT)))
    square = np.zeros((HEIGHT, WIDTH), bool)
    square[20:56, 50:86] = True
    ids, _ = read(path, OWN, name="photo")
    assert (ids != square).sum() <= 72 + 2  # at most one side and one row more
    ids, notes = read(path, photo_of(2 * WIDTH, 2 * HEIGHT), name="photo")
    assert ids.shape == (2 * HEIGHT, 2 * WIDTH)
    assert "resampled" in notes[0]


def test_crowds_are_left_out(tmp_path):
    value = coco(RUNS)
    value["annotations"][-1]["iscrowd"] = 1
    (tmp_path / "coco.json").write_text(json.dumps(value))
    ids, notes = read(tmp_path / "coco.json", OWN, name="photo")
    np.testing.assert_array_equal(ids, ids_of(MUG))
    assert "crowds" in notes[0]


@pytest.mark.parametrize(
    "value",
    [
        [{"segmentation": value, "area": 1, "predicted_iou": 0.9} for value in TEXTS],
        {"image": {"width": WIDTH, "height": HEIGHT}, "annotations": [{"segmentation": value} for value in RUNS]},
        {
            "annotations": [
                {"class_name": name, "segmentation": value} for name, value in zip(("mug", "bowl"), TEXTS, strict=True)
            ]
        },
    ],
)
def test_segment_anything_and_what_is_like_it(tmp_path, value):
    (tmp_path / "sam.json").write_text(json.dumps(value))
    masks = read_masks([tmp_path / "sam.json"], OWN)
    np.testing.assert_array_equal(masks.ids, ids_of(MUG, BOWL))
    assert masks.labels in (("", ""), ("mug", "bowl"))


def labelme(*shapes: dict) -> str:
    return json.dumps(
        {"version": "5", "imageWidth": WIDTH, "imageHeight": HEIGHT, "imagePath": "photo.jpg", "shapes": shapes}
    )


def test_labelme(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.full((9, 5), 255, np.uint8)).save(buffer, "PNG")
    pasted = {
        "label": "fork",
        "points": [[5, 3], [9, 11]],
        "shape_type": "mask",
        "mask": base64.b64encode(buffer.getvalue()).decode(),
    }
    (tmp_path / "m.json").write_text(
        labelme(
            {
                "label": "Mug",
                "points": [[20, 20], [40, 20], [40, 40], [20, 40]],
                "shape_type": "polygon",
                "group_id": None,
            },
            {"label": "bowl", "points": [[70, 40], [70, 50]], "shape_type": "circle", "group_id": None},
            {"label": "book", "points": [[20, 50], [30, 60]], "shape_type": "rectangle", "group_id": 4},
            {"label": "book", "points": [[30, 50], [40, 60]], "shape_type": "rectangle", "group_id": 4},
            {"label": "tip", "points": [[1, 1]], "shape_type": "point"},
            pasted,
        )
    )
    masks = read_masks([tmp_path / "m.json"], OWN)
    assert masks.labels == ("mug", "bowl", "book", "fork")
    assert [int(masks.ids[at]) for at in ((30, 30), (40, 70), (55, 22), (55, 38), (5, 7))] == [1, 2, 3, 3, 4]
    assert np.count_nonzero(masks.ids == 4) == 45
    assert masks.notes == ("masks: 1 shape(s) without an area are left out: tip",)


def test_annotations_that_are_all_marked_as_crowds_are_objects(tmp_path):
    """As some tools mark whatever they write as run lengths; and ids of images may be text."""
    annotations = [{"image_id": "1", "iscrowd": 1, "segmentation": runs} for runs in RUNS]
    (tmp_path / "m.json").write_text(json.dumps({"images": [{"id": 1}], "annotations": annotations}))
    ids, notes = read(tmp_path / "m.json", OWN)
    np.testing.assert_array_equal(ids, ids_of(MUG, BOWL))
    assert notes[0] == "masks: all annotations are marked as crowds, and each is taken as one object"


@pytest.mark.parametrize("label", ["hole", "_background_"])
def test_holes_in_labelme_by_their_names(tmp_path, label):
    """And a stray click is no damage."""
    rings = [[[10, 10], [60, 10], [60, 50], [10, 50]], [[20, 20], [40, 20], [40, 40], [20, 40]], [[1, 1], [2, 2]]]
    shapes = [{"label": name, "points": points} for name, points in zip(("ring", label, "cup"), rings, strict=True)]
    (tmp_path / "m.json").write_text(labelme(*shapes))
    masks = read_masks([tmp_path / "m.json"], OWN)
    assert masks.labels == ("ring",)
    assert (masks.ids[15, 15], masks.ids[30, 30]) == (1, 0)
    assert [note.split(": ")[1] for note in masks.notes[:3]] == [
        "at working size no pixel is left of annotation 3 (cup)",
        f"annotation 2 ({label}) is a hole in annotation 1 (ring)",
        f"annotation 2 ({label}) is left out, because its name says that it is no object",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("7", "JSON of another kind"),
        ('{"a": 1}', r"JSON of another kind \(a\)"),
        (json.dumps([{"segmentation": {"size": [HEIGHT, WIDTH], "counts": [5]}}]), "cover 5 pixels of 6144"),
        (json.dumps([{"segmentation": {"size": [HEIGHT, WIDTH], "counts": "zzzz"}}]), "run"),
        (json.dumps([{"segmentation": {"size": [64, 64], "counts": [4096]}}]), "64x64 pixels and the photo 96x64"),
        (json.dumps([{"segmentation": {"size": [64_000_000, 96_000_000], "counts": [1]}}]), "more than"),
        (json.dumps([{"segmentation": [[1, 2]]}]), "no object with a pixel left"),
        (
            json.dumps([{"bbox": [1, 2, 3, 4]}, {"segmentation": []}]),
            r"no mask of this photo: 2 annotation\(s\) without",
        ),
        (json.dumps({"images": [{"id": 1}], "annotations": []}), "no mask of this photo: it lists none"),
        (json.dumps({"shapes": [{"label": "tip", "shape_type": "point"}]}), "without an area are left out: tip"),
        (
            json.dumps([{"image_id": number, "segmentation": SQUARE} for number in (1, 2)]),
            "annotations of 2 images and does not say which",
        ),
    ],
)
def test_json_that_holds_no_masks_of_the_photo(tmp_path, text, said):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read(tmp_path / "m.json", OWN)


@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_run_lengths_come_back(pixels):
    runs = counts(pixels)
    np.testing.assert_array_equal(mask_of_runs(runs, *pixels.shape), pixels)
    np.testing.assert_array_equal(mask_of_runs(compressed(runs), *pixels.shape), pixels)


@given(st.text(alphabet=[chr(code) for code in range(40, 120)], max_size=20), st.integers(1, 20), st.integers(1, 20))
def test_no_text_of_run_lengths_does_harm(text, height, width):
    try:
        assert mask_of_runs(text, height, width).shape == (height, width)
    except ValueError:
        return


LABELLED = np.stack(MASKS)


@pytest.mark.parametrize(
    "values",
    [
        ids_of(MUG, BOWL).astype(np.uint8),
        ids_of(MUG, BOWL).astype(np.int64),
        ids_of(MUG, BOWL).astype(np.float32),
        ids_of(MUG, BOWL)[None, None],
        ids_of(MUG, BOWL)[..., None].astype(np.int32) - (ids_of(MUG, BOWL)[..., None] == 0),
        LABELLED,
        LABELLED[:, None],
        LABELLED[None],
        np.concatenate([~LABELLED.any(axis=0)[None], LABELLED]),
        np.moveaxis(LABELLED, 0, 2).astype(np.uint8),
        LABELLED * np.float32(0.9),
        np.where(LABELLED, 3.0, -7.0),
    ],
)
def test_arrays(tmp_path, values):
    np.save(tmp_path / "m.npy", values)
    np.testing.assert_array_equal(read(tmp_path / "m.npy", OWN)[0], ids_of(MUG, BOWL))
    np.savez(tmp_path / "m.npz", masks=values, scores=np.ones(2))
    np.testing.assert_array_equal(read(tmp_path / "m.npz", OWN)[0], ids_of(MUG, BOWL))


def test_colours_and_large_ids_in_an_array(tmp_path):
    picture = np.asarray(drawn((MUG, (120, 0, 7)), (BOWL, (3, 200, 0)), background=BLACK))
    np.save(tmp_path / "colours.npy", picture)
    np.testing.assert_array_equal(read(tmp_path / "colours.npy", OWN)[0], ids_of(MUG, BOWL))
    np.save(tmp_path / "large.npy", ids_of(MUG, BOWL).astype(np.int64) * 70_000)
    ids, notes = read(tmp_path / "large.npy", OWN)
    np.testing.assert_array_equal(ids, ids_of(MUG, BOWL))
    assert "numbered from 1" in notes[0]


@pytest.mark.parametrize(
    "values",
    [
        lambda ids: ids << 40,
        lambda ids: ids * -7,
        lambda ids: np.where(ids > 0, ids * 70_000, -1),
        lambda ids: ids * 7e4,
    ],
)
def test_ids_of_any_size_are_numbered(tmp_path, values):
    np.save(tmp_path / "m.npy", values(ids_of(MUG, BOWL).astype(np.int64)))
    ids, notes = read(tmp_path / "m.npy", OWN)
    np.testing.assert_array_equal(ids, ids_of(MUG, BOWL))
    assert "numbered from 1" in notes[0]


def test_ids_of_32_bits_in_pictures(tmp_path):
    """A TIFF of integers; and a PNG whose four channels are one number, the last of which is no transparency."""
    codes = ids_of(MUG, BOWL).astype(np.uint32)
    Image.fromarray((codes * 70_001).astype(np.int32)).save(tmp_path / "m.tif")
    ids, notes = read(tmp_path / "m.tif", OWN)
    np.testing.assert_array_equal(ids, ids_of(MUG, BOWL))
    assert "numbered from 1" in notes[0]
    for step in (0x000301, 0x41000301):
        save(tmp_path / "m.png", (codes * np.uint32(step)).view(np.uint8).reshape(HEIGHT, WIDTH, 4), "RGBA")
        np.testing.assert_array_equal(read(tmp_path / "m.png", OWN)[0], ids_of(MUG, BOWL))


def test_transparency_in_pictures_of_ids(tmp_path):
    """What is transparent is background, also where objects touch the border; then 0 is an object."""
    ids = ids_of(MUG, BOX)
    palette = Image.fromarray(np.where(ids == 0, 7, ids - 1).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 200, 0, 0] + [9] * 762)
    palette.save(tmp_path / "m.png", transparency=7)
    found, notes = read(tmp_path / "m.png", OWN)
    np.testing.assert_array_equal(found, np.array([0, 2, 1], np.uint16)[ids])
    assert notes[0] == "masks: what is transparent is background, and 0 is object 2"
    palette = Image.fromarray(ids.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0] + [9] * 759)
    palette.save(tmp_path / "overlay.png", transparency=bytes([0, 100, 100]))
    np.testing.assert_array_equal(read(tmp_path / "overlay.png", OWN)[0], ids)
    grey = np.stack([np.where(ids == 0, 99, ids), np.where(ids == 0, 0, 255)], axis=-1).astype(np.uint8)
    save(tmp_path / "la.png", grey, "LA")
    np.testing.assert_array_equal(read(tmp_path / "la.png", OWN)[0], ids)


def test_colours_to_be_laid_over_the_photo(tmp_path):
    """No pixel is wholly opaque, and those that are not transparent are objects."""
    picture = drawn((MUG, (200, 0, 0, 90)), (BOWL, (0, 200, 0, 90)), background=(0, 0, 0, 0))
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read(tmp_path / "m.png", OWN)[0], ids_of(MUG, BOWL))


def test_an_archive_with_more_than_masks(tmp_path):
    beside = {
        "image": np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        "boxes": np.ones((2, 4)),
        "labels": np.arange(4).reshape(2, 2),
    }
    for values in (ids_of(MUG, BOWL), LABELLED):
        np.savez(tmp_path / "m.npz", my_segments=values, **beside)
        ids, notes = read(tmp_path / "m.npz", OWN)
        np.testing.assert_array_equal(ids, ids_of(MUG, BOWL))
        assert notes[0].endswith("is left out: `image`, `boxes`, `labels`")


def test_ids_from_minus_one(tmp_path):
    """What is -1 is background if it has the border, and then 0 is an object."""
    np.save(tmp_path / "m.npy", ids_of(MUG, BOWL).astype(np.int64) - 1)
    ids, notes = read(tmp_path / "m.npy", OWN)
    np.testing.assert_array_equal(ids, np.array([0, 2, 1], np.uint16)[ids_of(MUG, BOWL)])
    assert "0, which is object 2" in notes[0]
    np.save(tmp_path / "m.npy", np.where(mask(BOX) & ~mask(BOWL), -1, ids_of(MUG, BOWL).astype(int)))
    ids, notes = read(tmp_path / "m.npy", OWN)
    np.testing.assert_array_equal(ids, np.where(mask(BOX) & ~mask(BOWL), UNKNOWN, ids_of(MUG, BOWL)))
    assert "-1 counts as unknown" in notes[0]


def test_grey_in_three_channels_is_ids(tmp_path):
    path = save(tmp_path / "m.png", np.repeat(ids_of(BOWL, MUG).astype(np.uint8)[..., None], 3, axis=2))
    np.testing.assert_array_equal(read(path, OWN)[0], ids_of(BOWL, MUG))


def test_a_cut_out_photo_is_the_mask_of_what_is_opaque(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    path = save(tmp_path / "m.png", np.dstack([photo, np.uint8(255) * mask(BOWL)]))
    ids, _ = read(path, OWN)
    np.testing.assert_array_equal(ids, ids_of(BOWL))


def test_several_masks_that_are_all_inverted(tmp_path):
    paths = [save(tmp_path / f"{number}.png", ~mask(box)) for number, box in enumerate((MUG, BOWL))]
    ids, notes = read(paths, OWN)
    np.testing.assert_array_equal(ids, ids_of(MUG, BOWL))
    assert "all 2 masks are inverted" in notes[0]


def test_a_picture_of_all_among_those_of_each_is_left_out(tmp_path):
    pixels = {"all": mask(MUG, BOWL), "1": mask(MUG), "2": mask(BOWL)}
    paths = [save(tmp_path / f"{name}.png", each) for name, each in pixels.items()]
    ids, notes = read(paths, OWN, names=[path.name for path in paths])
    np.testing.assert_array_equal(ids, ids_of(MUG, BOWL))
    assert notes == ("masks: all.png shows several of the other masks at once and is left out",)


def test_a_photo_or_a_depth_map_among_masks_is_no_object(tmp_path):
    paths = [
        save(tmp_path / "overlay.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8)),
        *(tmp_path / name for name in ("1.png", "2.png")),
    ]
    for path, box in zip(paths[1:], (MUG, BOWL), strict=True):
        save(path, mask(box))
    ids, notes = read(paths, OWN, labels=("overlay", "", ""))
    np.testing.assert_array_equal(ids, ids_of(MUG, BOWL))
    assert "overlay" not in notes[0]
    assert "picture 1 has so much of the picture" in notes[0]


def test_floor_and_walls_are_background_where_no_pixel_is(tmp_path):
    surfaces = np.where(np.arange(HEIGHT)[:, None] < HEIGHT // 2, 7, 9)
    ids, notes = read(
        save(tmp_path / "m.png", np.where(ids_of(MUG, BOWL) > 0, ids_of(MUG, BOWL), surfaces).astype(np.uint8)), OWN
    )
    np.testing.assert_array_equal(ids, ids_of(MUG, BOWL))
    assert notes == ("masks: no pixel is 0, so 7, 9 are background: they have much of the picture's border",)


def test_a_matte_is_one_mask(tmp_path):
    soft = Image.fromarray(np.uint8(255) * mask(BOWL)).filter(ImageFilter.GaussianBlur(3))
    soft.save(tmp_path / "m.png")
    ids, notes = read(tmp_path / "m.png", OWN)
    assert np.count_nonzero(ids) == pytest.approx(np.count_nonzero(mask(BOWL)), rel=0.05)
    assert ids.max() == 1
    assert "soft edges" in notes[0]
    Image.fromarray((np.asarray(soft) / np.float32(255)).astype(np.float32)).save(tmp_path / "m.tif")
    np.testing.assert_array_equal(read(tmp_path / "m.tif", OWN)[0], ids)


def test_a_lossy_webp_of_ids_is_refused_but_not_a_lossless_one(tmp_path):
    picture = Image.fromarray((ids_of(MUG, BOWL) * 60).astype(np.uint8)).convert("RGB")
    picture.save(tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(read(tmp_path / "a.webp", OWN)[0], ids_of(MUG, BOWL) * 60)
    picture.save(tmp_path / "b.webp")
    with pytest.raises(InputError, match="is a WEBP, which changes ids along every edge"):
        read(tmp_path / "b.webp", OWN)


def test_files_of_other_tools_are_named_by_their_ending(tmp_path):
    (tmp_path / "m.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(InputError, match=r"is a \.mat; allowed: .*\.json, .*\.npz"):
        read(tmp_path / "m.mat", OWN)


def test_polygons_drawn_on_a_larger_picture_are_said(tmp_path):
    large = (np.array(SQUARE) * 2).tolist()
    (tmp_path / "m.json").write_text(json.dumps([{"segmentation": [SQUARE, large]}]))
    assert "reach beyond the picture of 96x64" in read(tmp_path / "m.json", OWN)[1][0]


def test_labelme_without_a_size_and_with_a_rotated_box(tmp_path):
    box = [[40, 20], [60, 20], [60, 40], [40, 40]]
    shapes = [{"label": "box", "points": box, "shape_type": "rotation"}]
    (tmp_path / "m.json").write_text(json.dumps({"imageWidth": None, "imageHeight": None, "shapes": shapes}))
    masks = read_masks([tmp_path / "m.json"], OWN)
    assert masks.labels == ("box",)
    assert np.count_nonzero(masks.ids) == pytest.approx(400, abs=50)


def test_the_layout_of_sam_3d(tmp_path):
    """The photo as image.png, and beside it one cut-out per object, from 0 on."""
    photo = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    save(tmp_path / "image.png", photo)
    for number, box in enumerate((MUG, BOWL)):
        save(tmp_path / f"{number}.png", np.dstack([photo, np.uint8(255) * mask(box)]))
    found = companions(tmp_path / "image.png", "image", InputOptions(masks=tmp_path), single=True).masks
    np.testing.assert_array_equal(read([*found], OWN)[0], ids_of(MUG, BOWL))


def test_names_in_an_archive(tmp_path):
    np.savez(tmp_path / "m.npz", masks=LABELLED, labels=np.array(["coffee mug", "bowl"]))
    assert read_masks([tmp_path / "m.npz"], OWN).labels == ("coffee mug", "bowl")
    np.savez(tmp_path / "n.npz", **{"10_bowl": LABELLED[1], "2_mug": LABELLED[0]})
    masks = read_masks([tmp_path / "n.npz"], OWN)
    assert masks.labels == ("mug", "bowl")
    np.testing.assert_array_equal(masks.ids, ids_of(MUG, BOWL))


def test_arrays_that_are_no_masks(tmp_path):
    for name, values, said in (
        ("a", np.array(["x"]), "array of <U1"),
        ("b", np.zeros((4, HEIGHT, WIDTH, 3)), r"shape \(4, 64, 96, 3\)"),
        ("c", ids_of(MUG) * 1e20, r"ids from 0 to 1e\+20, which floats cannot tell apart"),
        ("d", np.ones((HEIGHT, WIDTH), bool), "fills the picture"),
        ("e", np.full((HEIGHT, WIDTH), 3), "the same value everywhere"),
        ("f", np.array([{}]), "holds Python objects, which are not read"),
        ("i", np.zeros((3, WIDTH, HEIGHT), bool), r"shape \(3, 96, 64\) and the photo 96x64; .*Swap its axes"),
    ):
        np.save(tmp_path / f"{name}.npy", values, allow_pickle=True)
        with pytest.raises(InputError, match=said):
            read(tmp_path / f"{name}.npy", OWN)
    np.savez(tmp_path / "g.npz", scores=np.ones(3))
    with pytest.raises(InputError, match="has scores; looked for"):
        read(tmp_path / "g.npz", OWN)
    (tmp_path / "h.npz").write_bytes(b"PK no archive")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "h.npz", OWN)


def textured(ids: np.ndarray) -> Image.Image:
    """A photo whose only edges are those of the masks, in a little noise."""
    shades = np.array([90, 200, 40], np.uint8)[ids]
    noise = np.random.default_rng(0).integers(0, 9, ids.shape, np.uint8)
    return Image.fromarray(shades + noise).convert("RGB")


@pytest.mark.parametrize(
    "transpose", [Image.Transpose.ROTATE_180, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90]
)
def test_edges_tell_masks_that_were_made_without_exif_rotation(tmp_path, transpose):
    ids = ids_of(MUG, BOWL)[:64, :64]
    upright = turned(ids, transpose)
    photo = UprightPhoto(textured(upright), None, (64, 64), transpose, (64, 64), None, ())
    for pixels in (ids, upright):
        found, notes = read(save(tmp_path / "m.png", np.ascontiguousarray(pixels).astype(np.uint8)), photo)
        np.testing.assert_array_equal(found, upright)
        assert [note for note in notes if "EXIF rotation" in note] == list(notes)
        assert bool(notes) == (pixels is ids)


def test_masks_of_another_photo_are_said(tmp_path):
    photo = UprightPhoto(textured(ids_of(MUG, BOWL)), None, (WIDTH, HEIGHT), None, (WIDTH, HEIGHT), None, ())
    own = save(tmp_path / "own.png", ids_of(MUG, BOWL).astype(np.uint8))
    foreign = save(tmp_path / "foreign.png", ids_of((40, 4, 50, 14), (4, 46, 30, 62)).astype(np.uint8))
    assert read(own, photo)[1] == ()
    assert "follow no edges of the photo" in read(foreign, photo)[1][-1]
    grey = np.asarray(photo.rgb.convert("L"), np.float32)
    assert edge_ratio(grey, ids_of(MUG, BOWL)) > 3
    assert edge_ratio(np.zeros_like(grey), ids_of(MUG, BOWL)) is None


@pytest.mark.parametrize("transpose", list(Image.Transpose))
def test_turned_is_what_pillow_does(transpose):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(turned(pixels, transpose), np.asarray(Image.fromarray(pixels).transpose(transpose)))


@settings(deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(2, 9), st.integers(2, 9))))
def test_the_border_is_every_pixel_without_a_neighbour(pixels):
    inner = np.zeros_like(pixels)
    inner[1:-1, 1:-1] = True
    assert border_share(pixels) == pytest.approx(pixels[~inner].mean())


@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), factor=st.integers(1, 5))
def test_nearest_takes_the_value_under_the_centre(size, factor):
    values = np.arange(size[0] * size[1]).reshape(size[1], size[0])
    np.testing.assert_array_equal(nearest(values, size), values)
    larger = values.repeat(factor, axis=0).repeat(factor, axis=1)
    np.testing.assert_array_equal(nearest(larger, size), values)
    np.testing.assert_array_equal(nearest(values, (size[0] * factor, size[1] * factor)), larger)
