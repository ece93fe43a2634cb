from __future__ import annotations

import numpy as np
import pytest
from PIL import ExifTags, Image

from scenegen.compute.runtime import Runtime
from scenegen.config import ReadConfig
from scenegen.errors import InputError
from scenegen.records import Photo, Source
from scenegen.store.digest import sha256_file
from scenegen.store.store import Store
from stages.read import READ
from stages.stage import execute


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def run(store: Store, source: Source, **config: object) -> Photo:
    return execute(READ, (source,), ReadConfig(**config), store, Runtime()).record


def test_a_phone_photo_with_masks_and_depth(tmp_path, store):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
    Image.new("RGB", (200, 300), (10, 200, 30)).save(tmp_path / "photo.JPG", "JPEG", exif=exif)
    masks = []
    for number in range(2):
        mask = Image.new("L", (300, 200))
        mask.paste(255, (100 * number, 50, 100 * number + 60, 150))
        mask.save(tmp_path / f"{number}.png")
        masks.append(store.ingest(tmp_path / f"{number}.png"))
    leaning = np.repeat(np.arange(3000, 2000, -5, dtype=np.uint16)[:, None], 300, axis=1)
    Image.fromarray(leaning).save(tmp_path / "depth.png")
    source = Source(
        name="kitchen",
        photo=store.ingest(tmp_path / "photo.JPG"),
        masks=tuple(masks),
        depth=store.ingest(tmp_path / "depth.png"),
    )
    photo = run(store, source, max_side=150)
    assert (photo.name, photo.width, photo.height) == ("kitchen", 150, 100)
    assert (photo.original_width, photo.original_height, photo.focal_35mm) == (300, 200, 26.0)
    assert photo.alpha is None
    assert photo.warnings == ()
    with Image.open(store.path(photo.image)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (150, 100))
        assert np.abs(np.asarray(image).astype(int) - (10, 200, 30)).max() <= 3
    with Image.open(store.path(photo.masks)) as ids:
        expected = np.zeros((100, 150), np.uint16)
        expected[25:75, :30] = 1
        expected[25:75, 50:80] = 2
        np.testing.assert_array_equal(np.asarray(ids), expected)
    depth = np.load(store.path(photo.depth), allow_pickle=False)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, leaning[1::2, ::2] / 1000, atol=1e-6)
    for artifact in (photo.image, photo.masks, photo.depth):
        assert sha256_file(store.path(artifact)) == artifact.sha256


def test_a_cut_out_keeps_its_alpha(tmp_path, store):
    pixels = np.full((20, 30, 4), 255, np.uint8)
    pixels[:, 15:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    photo = run(store, Source(name="x", photo=store.ingest(tmp_path / "photo.png")))
    assert (photo.masks, photo.depth) == (None, None)
    with Image.open(store.path(photo.alpha)) as alpha:
        np.testing.assert_array_equal(np.asarray(alpha), pixels[..., 3])


def test_what_was_read_is_not_read_again(tmp_path, store):
    Image.new("RGB", (32, 24)).save(tmp_path / "photo.png")
    source = Source(name="x", photo=store.ingest(tmp_path / "photo.png"))
    first = execute(READ, (source,), ReadConfig(), store, Runtime())
    second = execute(READ, (source,), ReadConfig(), store, Runtime())
    assert (first.cached, second.cached) == (False, True)
    assert second.record == first.record


def test_warnings_are_recorded(tmp_path, store):
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "photo.gif", save_all=True, append_images=frames[1:])
    photo = run(store, Source(name="x", photo=store.ingest(tmp_path / "photo.gif")))
    assert photo.warnings == ("the photo is animated; its first frame is used",)


def test_a_bad_photo_leaves_nothing_behind(tmp_path, store):
    (tmp_path / "photo.png").write_text("not a picture")
    source = Source(name="kitchen", photo=store.ingest(tmp_path / "photo.png"))
    with pytest.raises(InputError, match="photo 'kitchen' is not a picture") as caught:
        run(store, source)
    assert caught.value.exit_code == 3
    assert not (store.root / "read").exists()
    assert list((store.root / "staging").iterdir()) == []


def test_a_mask_of_another_size_is_refused(tmp_path, store):
    Image.new("RGB", (32, 24)).save(tmp_path / "photo.png")
    Image.new("L", (24, 32), 1).save(tmp_path / "mask.png")
    source = Source(name="x", photo=store.ingest(tmp_path / "photo.png"), masks=(store.ingest(tmp_path / "mask.png"),))
    with pytest.raises(InputError, match="24x32 pixels and the photo 32x24"):
        run(store, source)
