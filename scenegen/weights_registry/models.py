"""The registered models: files at pinned revisions, with their digests and licences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scenegen.errors import UsageError
from scenegen.messages.spelling import did_you_mean
from scenegen.registry import PORTS
from scenegen.weights_registry.editors import QWEN_EDIT, SDXL_INPAINTING
from scenegen.weights_registry.model import Model, ModelFile

SAM2_NAME, SAM3_NAME = "sam2.1-hiera-large", "sam3"
MOGE_NAME, DEPTH_PRO_NAME = "moge-2-vitl-normal", "depth-pro"
LIGHTGLUE_NAME = "lightglue-superpoint"


def registered(name: str) -> Model:
    """The model called `name`, or, as `name@revision`, the same model at another revision.

    Sizes and digests of another revision are unknown: those of the first fetch are accepted and required from then on.

    Raises:
        UsageError: if no model has that name, or it has no repository with revisions.
    """
    known, at, revision = name.partition("@")
    models = MODELS if known in MODELS else all_models()
    if known not in models:
        hint = did_you_mean(known, models)
        raise UsageError(f"`model` is {name!r}, which is not a registered model.{hint} Allowed: {', '.join(models)}.")
    model = models[known]
    if not at:
        return model
    if model.repo is None or not re.fullmatch(r"\w[\w.-]*", revision):
        raise UsageError(
            f"`model` is {name!r}; after the @, give a commit, tag or branch without `/`; the model needs a repository."
        )
    unknown = tuple(replace(file, bytes=None, sha256=None) for file in model.files)
    return replace(model, name=name, revision=revision, files=unknown)


def all_models() -> Mapping[str, Model]:
    """Every registered model, by name: `MODELS`, and those that back-ends of other packages bring."""
    brought = (model for port in PORTS for backend in port.usable() for model in backend.models)
    return {**{model.name: model for model in brought}, **MODELS}


def sam_name(model: str) -> str:
    """The registered name of segment-anything's weights of a size."""
    return f"sam-{model}"


def depth_anything_name(variant: str, size: str) -> str:
    """The registered name of Depth Anything's weights of a variant and size."""
    return f"depth-anything-v2-{variant}-{size}"


def _sam(variant: str, file: str, size: int, sha256: str) -> Model:
    url = f"https://dl.fbaipublicfiles.com/segment_anything/{file}"
    return Model(
        name=sam_name(variant),
        kind="segment",
        repo=None,
        revision=None,
        files=(ModelFile(file, url, size, sha256),),
        licence="Apache-2.0",
        licence_from='README of facebookresearch/segment-anything: "The model is licensed under the Apache 2.0 license"',
        note="Segment Anything (Kirillov et al. 2023), trained on SA-1B, whose pictures are for research only.",
    )


def _depth_anything(
    variant: str,
    size: str,
    revision: str,
    weights: tuple[int | None, str | None],
    config: tuple[int | None, str | None] = (None, None),
    preprocessor: tuple[int | None, str | None] = (None, None),
) -> Model:
    """`weights`, `config` and `preprocessor` are the sizes and digests of the three files."""
    infix = {"relative": "", "metric-indoor": "Metric-Indoor-", "metric-outdoor": "Metric-Outdoor-"}[variant]
    trained = {
        "relative": "Relative inverse depth, up to scale and shift.",
        "metric-indoor": "Metres up to 20, fine-tuned on Hypersim.",
        "metric-outdoor": "Metres up to 80, fine-tuned on Virtual KITTI 2.",
    }[variant]
    free = size == "small"
    return Model(
        name=depth_anything_name(variant, size),
        kind="depth",
        repo=f"depth-anything/Depth-Anything-V2-{infix}{size.capitalize()}-hf",
        revision=revision,
        files=(
            ModelFile("config.json", None, *config),
            ModelFile("preprocessor_config.json", None, *preprocessor),
            ModelFile("model.safetensors", None, *weights),
        ),
        licence="Apache-2.0" if free else "CC-BY-NC-4.0",
        licence_from='README of DepthAnything/Depth-Anything-V2: "Depth-Anything-V2-Small model is under the Apache-2.0 license. '
        'Depth-Anything-V2-Base/Large/Giant models are under the CC-BY-NC-4.0 license"; of the metric ones it says nothing more',
        note=trained if free else f"{trained} Not for commercial use.",
        about_gb={"small": 0.1, "base": 0.39, "large": 1.34}[size],
    )


def _network(stem: str, config: int | None, weights: int, sha256: str | None = None) -> tuple[ModelFile, ModelFile]:
    """A network of Pixal3D: the sizes of its two files, and the digest of its weights."""
    return (
        ModelFile(f"ckpts/{stem}.json", None, config),
        ModelFile(f"ckpts/{stem}.safetensors", None, weights, sha256),
    )


def _pixal3d(name: str, pipeline: ModelFile, configs: Sequence[int | None], suffix: str, note: str) -> Model:
    """Pixal3D's weights for one picture or for several: `configs` are the sizes of the four flows' configs."""
    structure, coarse, fine, texture = configs
    return Model(
        name=name,
        kind="generate",
        repo="TencentARC/Pixal3D",
        revision="b0cb2e1b794cab9aa0ac38a95d794a4d9337437f",
        files=(
            pipeline,
            *_network(f"ss_flow_img_dit_1_3B_64_bf16{suffix}", structure, 5_359_822_584),
            *_network(
                "ss_dec_conv3d_16l8_fp16",
                245,
                147_591_972,
                "1c76d4a40519aa2d711cc263a8404105231ac26db31d946bed48b84fee79009a",
            ),
            *_network(f"slat_flow_img2shape_dit_1_3B_512_bf16{suffix}", coarse, 5_546_764_048),
            *_network(f"slat_flow_img2shape_dit_1_3B_1024_bf16{suffix}", fine, 5_546_764_048),
            *_network(f"slat_flow_imgshape2tex_dit_1_3B_1024_bf16{suffix}", texture, 5_546_960_656),
            *_network(
                "shape_dec_next_dc_f16c32_fp16",
                678,
                948_490_494,
                "e3b718d3e43e4f8780e9a24ac6fff231811a67e3b058e336e10fe654c911d581",
            ),
            *_network(
                "tex_dec_next_dc_f16c32_fp16",
                705,
                948_458_812,
                "97ea69addea2ecd9312910f5f548234665eef51c088386180b7cd5b258645e3c",
            ),
        ),
        licence="MIT",
        licence_from='README of TencentARC/Pixal3D: "This project is released under the MIT License"',
        about_gb=24.1,
        note=f"{note} MIT since May 2026, before that for academic use outside the European Union only. Copies of its page "
        "still carry that exclusion beside the licence: check what applies to you.",
    )


_RELATIVE_PREPROCESSOR = (775, "d41175c0d889477ca8fc67191e540faef14baf6275157b3fdecf78469e6bbf84")
_METRIC_PREPROCESSOR = (437, "533b16a60445d7cab5086d39b45f92be45624b977972c62d5984d93e98366063")

MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        # The six digits in Meta's file names begin the MD5; these are the SHA-256.
        _sam(
            "vit_b",
            "sam_vit_b_01ec64.pth",
            375_042_383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        _sam(
            "vit_l",
            "sam_vit_l_0b3195.pth",
            1_249_524_607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        _sam(
            "vit_h",
            "sam_vit_h_4b8939.pth",
            2_564_550_879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
        Model(
            name=SAM2_NAME,
            kind="segment",
            repo="facebook/sam2.1-hiera-large",
            revision="665f8e2ad61cf5f53d65644ff27c8ee525124610",
            files=(
                ModelFile(
                    "config.json", None, 5705, "00446988cf4d617118d2d347eabe2c46aebed744628facdd540508be30b69ec3"
                ),
                ModelFile(
                    "model.safetensors",
                    None,
                    897_897_416,
                    "dc407dce21301fd94abb395c5099b4f2c455fdc8a8f261ac3d0ea6d4cd197230",
                ),
            ),
            licence="Apache-2.0",
            licence_from='README of facebookresearch/sam2: "The SAM 2 model checkpoints [...] are licensed under Apache 2.0"',
            note="SAM 2.1 (Ravi et al. 2024), the large network, trained on SA-V and SA-1B, whose photos are for research only.",
        ),
        Model(
            name=SAM3_NAME,
            kind="segment",
            repo="facebook/sam3",
            revision="3c879f39826c281e95690f02c7821c4de09afae7",
            files=(ModelFile("config.json"), ModelFile("model.safetensors"), ModelFile("tokenizer.json")),
            licence="SAM License",
            licence_from='README of facebookresearch/sam3: "This project is licensed under the SAM License"',
            note="SAM 3 (Carion et al. 2025). The SAM License allows commercial use, but no military, nuclear or espionage "
            "use: read it. Meta grants access to accounts that ask for it.",
            about_gb=3.45,
            gated=True,
        ),
        Model(
            name=MOGE_NAME,
            kind="depth",
            repo="Ruicheng/moge-2-vitl-normal",
            revision="cb0e8bbd6b1e243589717c78e750b1ba4c093acf",
            files=(
                ModelFile(
                    "model.pt",
                    None,
                    1_323_815_904,
                    "280741fd09bc3f403ccff9967784c2a391b52d2c0742ae3efdb21d9f90cc1a01",
                ),
            ),
            licence="MIT",
            licence_from="the tag of its model card, as others cite it; the README of microsoft/MoGe says MIT of the code alone",
            note="MoGe-2 (Wang et al. 2025), the large network with normals. Its part of DINOv2 is Apache-2.0.",
        ),
        Model(
            name=DEPTH_PRO_NAME,
            kind="depth",
            repo="apple/DepthPro-hf",
            revision="3a8b51229207764e5215b31f47fac0d1a049d563",
            files=(ModelFile("config.json"), ModelFile("model.safetensors")),
            licence="Apple AMLR",
            licence_from="the tag apple-amlr of its model card; the README of apple/ml-depth-pro puts the "
            "weights that it publishes itself under that repository's LICENSE, which says nothing of research",
            note="Depth Pro (Bochkovskii et al. 2024). Apple's machine learning research model licence is for research only, "
            "not for commercial use. Its page has later commits with the same files: depth-pro@COMMIT fetches one of them.",
            about_gb=1.9,
        ),
        Model(
            name=LIGHTGLUE_NAME,
            kind="match",
            repo="ETH-CVG/lightglue_superpoint",
            # Its commits are not known here; lightglue-superpoint@COMMIT fetches one of them.
            revision="main",
            files=(ModelFile("config.json"), ModelFile("model.safetensors")),
            licence="other (SuperPoint)",
            licence_from="not read: its card could not be found",
            note="LightGlue (Lindenberger et al. 2023) with SuperPoint (DeTone et al. 2018), for transformers. LightGlue "
            "itself is Apache-2.0, but the file holds SuperPoint, which Magic Leap licenses for non-commercial research only. No "
            "commit is pinned: what the first fetch brings is required from then on.",
            about_gb=0.055,
        ),
        _depth_anything(
            "relative",
            "small",
            "5426e4f0f36572d16453bbda7a8389317b1bef99",
            (99_173_660, "3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70"),
            (950, "c56698d3643dde1f83ea2212759e6b31a22b8f827246a36dd007ee8a22b3ff75"),
            _RELATIVE_PREPROCESSOR,
        ),
        _depth_anything("relative", "base", "b1958afc87fb45a9e3746cb387596094de553ed8", (None, None)),
        _depth_anything(
            "relative",
            "large",
            "7581137eff8d4e94f6e796d3baea0e9fa79b22d2",
            (1_341_322_868, "4e01e34ed5549b529b70b92d53226bc370f03041977b390d3dde45d47f516cf9"),
            preprocessor=_RELATIVE_PREPROCESSOR,
        ),
        _depth_anything(
            "metric-indoor",
            "small",
            "8078d68a9c75a972131914f6afd0c1723be0da7f",
            (99_173_660, "e990eb82fbf11b05b7813261196a2b841bdcf5a05f64396724a8987fa90504a3"),
            (1063, "0b1d9fc591693d16b864249a9cfcf5264c8c00be999c1643fa1c64dc105d55f8"),
            _METRIC_PREPROCESSOR,
        ),
        _depth_anything(
            "metric-indoor",
            "base",
            "c6d9784685727bfc6d0a7b5452ce94afaee1e7f5",
            (None, "8b902f5d9a8c8a9520f3a8c6a00afe442b464eff5aaf0cb405d1da721cd9f79f"),
        ),
        _depth_anything(
            "metric-indoor",
            "large",
            "d2fc6a93601aabb1139a3bf0ebfcb4e89c67817f",
            (None, "04d3295ff4f9cbee72b8998a85930fe870b45ba4431e7af47415fbded02388ca"),
        ),
        _depth_anything(
            "metric-outdoor",
            "small",
            "fd2c22027eaf20374204f14099b8341e1925ad39",
            (99_173_660, "ad065c77a7421ca55159a1f0db9433397a607690f2d76bb8a6fc54b1be7a3124"),
            (1063, None),
            (437, None),
        ),
        _depth_anything(
            "metric-outdoor",
            "base",
            "5b575fded0346068343a6d96d0ce3ab6dbc9fb49",
            (None, "1f2e9ed13ee39126686994669f8d1bfd9cd8f093a4d2a0891e5a0e5263b480c9"),
        ),
        _depth_anything(
            "metric-outdoor",
            "large",
            "4eab4cf1983c2801c515804005214de56a4b67cc",
            (None, "15f7de4b22f1b1194847ea694ee9ed6395563ba5cd52b70b87901f183c232c9a"),
        ),
        _pixal3d(
            "pixal3d",
            ModelFile("pipeline.json", None, 4068),
            (503, 535, 535, 535),
            "",
            "Pixal3D (arXiv 2605.10922), single view, 24 GB; needs dinov3-vitl16 and naf.",
        ),
        _pixal3d(
            "pixal3d-mv",
            ModelFile("pipeline_mv.json"),
            (None, None, None, None),
            "_mv",
            "Pixal3D for objects that several photos show (scenegen views), 24 GB; needs dinov3-vitl16 and naf.",
        ),
        Model(
            name="dinov3-vitl16",
            kind="generate",
            # An open copy, which Pixal3D itself names; Meta's own repository needs an account and Meta's consent.
            repo="camenduru/dinov3-vitl16-pretrain-lvd1689m",
            revision="3c276edd87d6f6e569ff0c4400e086807d0f3881",
            files=(
                ModelFile(
                    "model.safetensors",
                    None,
                    1_212_559_808,
                    "dcb2e45127cccbf1601e5f42fef165eea275c8e5213197e8dcf3f48822718179",
                ),
            ),
            licence="DINOv3",
            licence_from='README of facebookresearch/dinov3: "code and model weights are released under the DINOv3 License"',
            note="DINOv3 ViT-L/16 (Meta; Siméoni et al. 2025), from an open copy of the gated "
            "facebook/dinov3-vitl16-pretrain-lvd1689m. The DINOv3 licence allows commercial use on its terms: read them.",
        ),
        Model(
            name="naf",
            kind="generate",
            repo=None,
            revision=None,
            files=(
                ModelFile(
                    "naf_release.pth",
                    "https://github.com/valeoai/NAF/releases/download/model/naf_release.pth",
                    2_664_431,
                    "c096c1ab2217a5c3ac136365f721685e2201379cb69d509cfb0261183847c98f",
                ),
            ),
            licence="not stated",
            licence_from="README of valeoai/NAF, which names none; others who carry its code call it Apache-2.0, and one file of "
            "it (rope.py) is under the DINOv3 licence",
            note="NAF, the feature up-sampler Pixal3D uses (Chambon et al. 2025). Its authors' README names no licence: ask them "
            "before you sell what it helped to make.",
        ),
        QWEN_EDIT,
        SDXL_INPAINTING,
    )
}
"""The models of scenegen's own back-ends, by name."""
