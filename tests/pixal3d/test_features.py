import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scenegen.errors import UsageError, WeightsError
from scenegen.pixal3d.dino import IMAGENET_MEAN, IMAGENET_STD, VITL16, Dinov3, normalised
from scenegen.pixal3d.features import ExtractorSettings, FeatureExtractor, ImageFeatures
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.projection import Cameras, dense_coords, distance_from_fov, front_cameras

TINY = {
    **VITL16,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 4,
}
SIZE = 36
PLAIN = ExtractorSettings(image_size=SIZE, grid_resolution=5)
FINE = ExtractorSettings(image_size=SIZE, grid_resolution=5, use_naf=True, naf_target_size=18)


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    torch.manual_seed(0)
    return FeatureExtractor(Dinov3(TINY), NafUpsampler(dim=16, heads_attn=2, heads_rope=1, img_layers=1))


def pictures(objects: int, views: int, size: int = SIZE) -> Tensor:
    return torch.rand(objects, views, 3, size, size, generator=torch.Generator().manual_seed(objects * 10 + views))


def cameras(objects: int, views: int = 1) -> Cameras:
    """Every view with a field of view of its own."""
    fov = torch.linspace(0.4, 0.8, objects * views).reshape(objects, views)
    distance = torch.tensor([distance_from_fov(value) for value in fov.flatten().tolist()])
    front = front_cameras(fov.flatten(), distance, torch.ones(objects * views))
    return Cameras(front.world_from_camera.reshape(objects, views, 4, 4), fov, torch.ones(objects))


def one_view(features: ImageFeatures, cameras: Cameras, view: int) -> tuple[ImageFeatures, Cameras]:
    one = slice(view, view + 1)
    return (
        ImageFeatures(features.images[:, one], features.special_tokens[:, one], features.lr[:, one]),
        Cameras(cameras.world_from_camera[:, one], cameras.fov[:, one], cameras.mesh_scale),
    )


def test_tokens_have_no_scale_and_no_shift(extractor):
    images = pictures(2, 1)[:, 0]
    tokens = extractor.dino(images)
    assert tokens.shape == (2, 1 + 4 + 81, 24)
    assert tokens.mean(-1).abs().max() < 1e-5
    assert (tokens.var(-1, unbiased=False) - 1).abs().max() < 0.1
    other = Dinov3(TINY)
    state = extractor.dino.state_dict()
    other.load_state_dict({**state, "norm.weight": state["norm.weight"] * 3, "norm.bias": state["norm.bias"] + 1})
    assert torch.equal(other(images), tokens)


def test_the_released_network_has_the_released_tensors():
    with torch.device("meta"):
        state = Dinov3(VITL16).state_dict()
    assert len(state) == 415
    assert sum(tensor.numel() for tensor in state.values()) == 303_129_600
    per_layer = {name.removeprefix("layer.23.") for name in state if name.startswith("layer.23.")}
    assert {"attention.k_proj.weight", "layer_scale1.lambda1", "mlp.up_proj.bias", "norm2.weight"} <= per_layer
    assert "attention.k_proj.bias" not in per_layer
    assert {name.split(".")[0] for name in state} == {"embeddings", "layer", "norm"}


def test_a_checkpoint_must_be_complete(extractor):
    state = extractor.state_dict()
    del state["dino.layer.1.norm1.bias"]
    with pytest.raises(RuntimeError, match=r"dino\.layer\.1\.norm1\.bias"):
        extractor.load_state_dict(state)


def test_images_are_normalised_as_those_of_imagenet():
    image = torch.tensor(IMAGENET_MEAN)[:, None, None].expand(3, 2, 2) + torch.tensor(IMAGENET_STD)[:, None, None]
    assert torch.allclose(normalised(image[None]), torch.ones(1, 3, 2, 2), atol=1e-6)


def test_features_keep_objects_and_views_apart(extractor):
    images = pictures(2, 3)
    features = extractor.encode(images)
    assert features.special_tokens.shape == (2, 3, 5, 24)
    assert features.lr.shape == (2, 3, 24, 9, 9)
    alone = extractor.encode(images[1:, 2:])
    assert torch.allclose(features.lr[1:, 2:], alone.lr, atol=1e-5)
    tokens = extractor.dino(normalised(images[1, 2][None]))[0]
    assert torch.allclose(alone.lr[0, 0, :, 3, 7], tokens[5 + 3 * 9 + 7], atol=1e-5)
    assert torch.allclose(alone.global_tokens[0], tokens[:5], atol=1e-5)
    assert torch.allclose(features.global_tokens[1], features.special_tokens[1].sum(0) / 3, atol=1e-6)


def test_networks_are_frozen(extractor):
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert not extractor.encode(pictures(1, 1)).lr.requires_grad


def test_a_voxel_gets_what_the_picture_shows_at_its_place(extractor):
    """The features are the place itself, which bilinear sampling keeps inside the outermost cells' centres."""
    cells = (torch.arange(9) + 0.5) / 9 * 2 - 1
    place = torch.stack([cells[None, :].expand(9, 9), cells[:, None].expand(9, 9)])
    features = ImageFeatures(pictures(1, 1), torch.zeros(1, 1, 5, 2), place[None, None])
    fov = 0.6
    seen = front_cameras(torch.tensor([fov]), torch.tensor([distance_from_fov(fov)]), torch.ones(1))
    settings = replace(PLAIN, grid_resolution=9)
    volume = extractor.project(features, seen, settings)[0].unflatten(0, (9, 9, 9))
    shift = 1 / SIZE  # the reference's half pixel
    edge = torch.linspace(-1, 1, 9)
    # In the middle slice, at the centre's depth, the cube fills the picture: x to the right, y up.
    expected_u, expected_v = (edge + shift)[:, None].expand(9, 9), (-edge + shift)[None, :].expand(9, 9)
    inside = (expected_u.abs() < cells[-1]) & (expected_v.abs() < cells[-1])
    assert inside.sum() >= 49
    ours = volume[:, :, 4][inside]
    assert torch.allclose(ours, torch.stack([expected_u[inside], expected_v[inside]], -1), atol=1e-5)
    # z towards the camera: nearer voxels spread further.
    assert volume[6, 4, 6, 0] > volume[6, 4, 4, 0] > volume[6, 4, 2, 0]


@pytest.mark.parametrize("settings", [PLAIN, FINE])
def test_active_voxels_are_those_of_the_dense_volume(extractor, settings):
    features, seen = extractor.encode(pictures(2, 1)), cameras(2)
    volume = extractor.project(features, seen, settings).unflatten(1, (5, 5, 5))
    generator = torch.Generator().manual_seed(0)
    coords = torch.cat(
        [torch.randint(0, 2, (40, 1), generator=generator), torch.randint(0, 5, (40, 3), generator=generator)], 1
    ).int()
    ours = extractor.project(features, seen, settings, coords)
    assert torch.allclose(ours, volume[tuple(coords.long().T)], atol=1e-5)


def test_upsampled_features_follow_the_plain_ones(extractor):
    features, seen = extractor.encode(pictures(1, 1)), cameras(1)
    plain, both = (extractor.project(features, seen, settings) for settings in (PLAIN, FINE))
    assert both.shape == (1, 125, 48)
    assert torch.equal(both[..., :24], plain)
    assert (both[..., 24:] - plain).abs().max() > 0.01


@pytest.mark.parametrize("settings", [PLAIN, FINE])
def test_several_pictures_are_averaged(extractor, settings):
    features, seen = extractor.encode(pictures(1, 3)), cameras(1, 3)
    alone = [extractor.project(*one_view(features, seen, view), settings) for view in range(3)]
    fused = extractor.project(features, seen, settings)
    assert torch.allclose(fused, torch.stack(alone).mean(0), atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)


def test_a_few_voxels_of_an_enormous_grid_cost_a_few_voxels(extractor):
    """Its dense volume would be 27 TiB."""
    features, seen = extractor.encode(pictures(1, 1)), cameras(1)
    resolution = 8193
    far = torch.tensor([[0, 0, 0, 0], [0, resolution - 1, 0, resolution - 1]])
    ours = extractor.project(features, seen, replace(FINE, grid_resolution=resolution), far)
    corners = torch.tensor([[0, 0, 0, 0], [0, 4, 0, 4]])
    assert torch.allclose(ours, extractor.project(features, seen, FINE, corners), atol=1e-5)


def test_no_voxels_give_no_features(extractor):
    features = extractor.encode(pictures(1, 1))
    assert extractor.project(features, cameras(1), FINE, torch.zeros(0, 4, dtype=torch.int32)).shape == (0, 48)


def test_dense_order_is_that_of_a_flattened_volume():
    assert torch.equal(dense_coords(3)[1 * 9 + 2 * 3 + 0], torch.tensor([1, 2, 0]))


def test_what_does_not_belong_together_is_refused(extractor):
    features, seen = extractor.encode(pictures(1, 1)), cameras(1)
    with pytest.raises(UsageError, match=r"of 36 pixel pictures; `settings\.image_size` is 72"):
        extractor.project(features, seen, replace(PLAIN, image_size=72))
    with pytest.raises(UsageError, match=r"`cameras` are \(1, 2\); `features` need \(1, 1\)"):
        extractor.project(features, cameras(1, 2), PLAIN)
    with pytest.raises(UsageError, match="`coords` name objects 0 to 1; `features` are of 1"):
        extractor.project(features, seen, PLAIN, torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0]]))
    with pytest.raises(UsageError, match="a grid of resolution 5 allows 0 to 4"):
        extractor.project(features, seen, PLAIN, torch.tensor([[0, 0, 0, 5]]))
    with pytest.raises(UsageError, match="built without NAF"):
        FeatureExtractor(extractor.dino, None).project(features, seen, FINE)
    with pytest.raises(UsageError, match="multiple of the patch, 4"):
        extractor.encode(pictures(1, 1, size=38))


def test_impossible_settings_are_refused():
    with pytest.raises(UsageError, match="`naf_target_size` is None; with `use_naf`"):
        ExtractorSettings(image_size=64, grid_resolution=4, use_naf=True)
    with pytest.raises(UsageError, match="`grid_resolution` 1"):
        ExtractorSettings(image_size=64, grid_resolution=1)


def test_without_transformers_the_error_names_the_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(WeightsError, match=r"pip install 'scenegen-3d\[full\]'"):
        Dinov3(TINY)
