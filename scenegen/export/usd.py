"""USD: an assembly of components with materials, physics and labels, a package for phones, and their validation.

    scene.usd                              assembly: groups `objects` and `background`, camera, gravity
    objects/<name>/<name>.usd              component: what can be known without loading it (labels, mass, provenance)
    objects/<name>/payload.usdc            its meshes (`geo`) and material (`mtl`)
    objects/<name>/base_color.png          RGBA if the object is cut out or transparent
    objects/<name>/metallic_roughness.png  if the two vary
    objects/<name>/material.mtlx           the material as OpenPBR, which is also the variant `openpbr` of the USD material
    background/<name>/...                  likewise

The layout is the ASWF's (usd-wg/assets, asset structure guidelines). Units are metres and kilograms, Z is up
(`scenegen.camera.USD_FROM_WORLD`). A component knows nothing of the scene it is in, so that a scene can replace one object
and leave the files of the others alone. The same scene gives the same bytes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int32
from pxr import Gf, Kind, Sdf, Tf, Usd, UsdGeom, UsdLux, UsdPhysics, UsdSemantics, UsdShade, UsdUtils, UsdValidation, Vt

from scenegen.camera import GLTF_CAMERA_FROM_CAMERA, USD_FROM_WORLD, transform
from scenegen.export.bodies import body_of
from scenegen.export.materialx import SURFACE, VERSION, Input, openpbr, write_materialx
from scenegen.export.parts import GENERATOR, NEAR_M, Part, PartScene, about_part, pose, prepared
from scenegen.geometry.mesh import ALPHA_CUTOFF, TexturedMesh, alpha_mode, vertex_normals
from scenegen.geometry.solid import welded
from scenegen.physics.body import Hull, hull
from scenegen.physics.material import Substance
from scenegen.records import Intrinsics
from scenegen.store.png import write_png

GROUND_M = 5.0
"""How far the ground that things can fall on reaches beyond the scene."""
FAR_M = 10_000.0
FRAME_WIDTH = 0.36
"""Horizontal aperture of the exported camera in tenths of a scene unit, as USD counts: that of a frame 36 mm wide."""
GRAVITY = 9.81
DOWN = {UsdGeom.Tokens.y: Gf.Vec3f(0, -1, 0), UsdGeom.Tokens.z: Gf.Vec3f(0, 0, -1)}
USER_TYPES = {
    str: Sdf.ValueTypeNames.String,
    int: Sdf.ValueTypeNames.Int64,
    float: Sdf.ValueTypeNames.Double,
    bool: Sdf.ValueTypeNames.Bool,
}
BASE_COLOR = "base_color.png"
METALLIC_ROUGHNESS = "metallic_roughness.png"
MATERIALX = "material.mtlx"
SHADING, PREVIEW, OPENPBR = "shading", "preview", "openpbr"
"""The variants of a material: `UsdPreviewSurface` alone, or with OpenPBR beside it."""
MATERIALX_TYPES = {
    "float": Sdf.ValueTypeNames.Float,
    "integer": Sdf.ValueTypeNames.Int,
    "string": Sdf.ValueTypeNames.String,
    "filename": Sdf.ValueTypeNames.Asset,
    "color3": Sdf.ValueTypeNames.Color3f,
    "color4": Sdf.ValueTypeNames.Color4f,
    "surfaceshader": Sdf.ValueTypeNames.Token,
}
ROOT = "/scene"
COLLIDERS = "/colliders"
"""Convex parts, outside of what is shown of a component."""


def write_usd(folder: Path, scene: PartScene) -> list[str]:
    """Writes `scene.usd` and its components into `folder`.

    Args:
        folder: an existing folder without USD files.
        scene: what to write, from `scenegen.export.bodies.with_bodies`.

    Returns:
        The files, relative to the folder, with forward slashes.

    Raises:
        ExportError: if `scenegen.export.parts.prepared` refuses the scene.
        ObjectError: if one of the objects cannot be written.
    """
    scene = prepared(scene)
    names = ["scene.usd"]
    for part in scene.objects:
        with about_part(part):
            body_of(part)
            names += _write_component(folder, "objects", part)
    for part in scene.background:
        names += _write_component(folder, "background", part)
    stage = _new_stage(Sdf.Layer.CreateNew(str(folder / "scene.usd"), args={"format": "usda"}))
    _assemble(stage, scene, ".")
    stage.GetRootLayer().Save()
    return names


def write_usdz(path: Path, scene: PartScene, folder: Path) -> None:
    """Writes `scene` as one self-contained package with Y up, as phones expect.

    Args:
        path: the `.usdz` to write.
        scene: the scene that was given to `write_usd`.
        folder: where `write_usd` wrote it.

    Raises:
        ExportError: if `scenegen.export.parts.prepared` refuses the scene.
    """
    stage = _new_stage(Sdf.Layer.CreateAnonymous(".usda"), UsdGeom.Tokens.y)
    _assemble(stage, prepared(scene), folder.resolve().as_posix())
    for prim in [prim for prim in stage.Traverse() if prim.IsInstance()]:
        prim.SetInstanceable(False)  # phones know no instances
    layer = stage.Flatten(addSourceFileComment=False)
    textures: dict[str, str] = {}

    def packed(asset: str) -> str:
        part, file = Path(asset).parent.name, Path(asset).name
        # Names of parts contain no dot, so textures cannot collide.
        return textures.setdefault(asset, f"textures/{part}.png" if file == BASE_COLOR else f"textures/{part}.{file}")

    UsdUtils.ModifyAssetPaths(layer, packed)
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        root = Path(temporary) / "scene.usdc"
        layer.Export(str(root))
        files = [(root, "scene.usdc")]
        for number, (source, name) in enumerate(sorted(textures.items(), key=lambda item: item[1])):
            files.append((Path(temporary) / f"{number}.png", name))
            shutil.copyfile(source, files[-1][0])
        package = Sdf.ZipFileWriter.CreateNew(str(path))
        for file, name in files:
            # The archive records local times, so each file gets the earliest one that zip allows.
            epoch = time.mktime((1980, 1, 1, 0, 0, 0, 0, 0, 0))
            os.utime(file, (epoch, epoch))
            package.AddFile(str(file), name)
        package.Save()


def validate_stage(path: Path) -> list[str]:
    """The errors and warnings of every validator registered with USD for the stage at `path`."""
    try:
        stage = Usd.Stage.Open(str(path))
    except Tf.ErrorException as error:
        return [f"{path.name} cannot be opened: {error}"]
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    findings = UsdValidation.ValidationContext(validators).Validate(stage)
    return [f"{finding.GetIdentifier()}: {finding.GetMessage()}" for finding in findings]


def _new_stage(layer: Any, up: str = UsdGeom.Tokens.z) -> Any:
    stage = Usd.Stage.Open(layer)
    UsdGeom.SetStageUpAxis(stage, up)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    return stage


def _assemble(stage: Any, scene: PartScene, folder: str) -> None:
    """Writes the scene to an empty stage, with references to its components in `folder`."""
    root = UsdGeom.Xform.Define(stage, ROOT)
    stage.SetDefaultPrim(root.GetPrim())
    Usd.ModelAPI(root.GetPrim()).SetKind(Kind.Tokens.assembly)
    if UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y:
        _place(root, USD_FROM_WORLD.T, "scene")
    groups = {"objects": scene.objects, "background": scene.background}
    models = [root.GetPrim()] if any(groups.values()) else []
    for group, parts in groups.items():
        if not parts:
            continue
        prim = UsdGeom.Xform.Define(stage, f"{ROOT}/{group}").GetPrim()
        Usd.ModelAPI(prim).SetKind(Kind.Tokens.group)
        models.append(prim)
        for part in parts:
            place = UsdGeom.Xform.Define(stage, f"{ROOT}/{group}/{part.name}")
            place.GetPrim().GetReferences().AddReference(f"{folder}/{group}/{part.name}/{part.name}.usd")
            _place(place, USD_FROM_WORLD @ part.world_from_part @ USD_FROM_WORLD.T, part.name)
    _define_camera(stage, "camera", scene.intrinsics, scene.world_from_camera, {})
    for other in scene.cameras:
        _define_camera(stage, other.name, other.intrinsics, other.world_from_camera, {"photo": other.photo})
    if UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.z:  # phones have a light and a ground of their own
        _define_light(stage)
        _define_ground(stage, scene)
    physics = UsdPhysics.Scene.Define(stage, f"{ROOT}/physics")
    physics.CreateGravityDirectionAttr(DOWN[UsdGeom.GetStageUpAxis(stage)])
    physics.CreateGravityMagnitudeAttr(GRAVITY)
    boxes = UsdGeom.BBoxCache(Usd.TimeCode.Default(), [UsdGeom.Tokens.default_])
    for prim in models:
        model = UsdGeom.ModelAPI.Apply(prim)
        model.SetExtentsHint(model.ComputeExtentsHint(boxes))
    stage.GetRootLayer().customLayerData = {
        "asset_name": "scene",
        "asset_type": "scene",
        "scenegen": {"generator": GENERATOR, **scene.facts},
    }


def _define_camera(
    stage: Any,
    name: str,
    intrinsics: Intrinsics,
    world_from_camera: Float64[np.ndarray, "4 4"],
    facts: Mapping[str, str],
) -> None:
    """A photo's camera. Its aperture is shifted if the principal point is off centre."""
    camera = UsdGeom.Camera.Define(stage, f"{ROOT}/{name}")
    _place(camera, USD_FROM_WORLD @ world_from_camera @ GLTF_CAMERA_FROM_CAMERA, name)
    focal = FRAME_WIDTH * intrinsics.fx / intrinsics.width
    frame_height = focal * intrinsics.height / intrinsics.fy
    camera.CreateProjectionAttr(UsdGeom.Tokens.perspective)
    camera.CreateFocalLengthAttr(focal)
    camera.CreateHorizontalApertureAttr(FRAME_WIDTH)
    camera.CreateVerticalApertureAttr(frame_height)
    camera.CreateHorizontalApertureOffsetAttr((0.5 - intrinsics.cx / intrinsics.width) * FRAME_WIDTH)
    camera.CreateVerticalApertureOffsetAttr((intrinsics.cy / intrinsics.height - 0.5) * frame_height)
    camera.CreateClippingRangeAttr(Gf.Vec2f(NEAR_M, FAR_M))
    camera.GetPrim().SetCustomDataByKey("scenegen", {**intrinsics.model_dump(), **facts})


def _define_light(stage: Any) -> None:
    """Even light from all around, under which a surface has the colours of its texture: those already hold the photo's light."""
    light = UsdLux.DomeLight.Define(stage, f"{ROOT}/light")
    light.CreateIntensityAttr(1.0)
    light.CreateColorAttr(Gf.Vec3f(1, 1, 1))


def _define_ground(stage: Any, scene: PartScene) -> None:
    """A level square at height 0 below the whole scene, on which things land: the floor that is seen may have holes."""
    corners = [
        transform(USD_FROM_WORLD @ part.world_from_part, part.mesh.vertices.astype(np.float64))[:, :2]
        for part in (*scene.objects, *scene.background)
    ]
    if not corners:
        return
    points = np.concatenate(corners)
    (x0, y0), (x1, y1) = points.min(axis=0) - GROUND_M, points.max(axis=0) + GROUND_M
    vertices = np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]], dtype=np.float32)
    ground = _define_mesh(stage, f"{ROOT}/ground", vertices, np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32))
    ground.CreatePurposeAttr(UsdGeom.Tokens.guide)
    ground.CreateVisibilityAttr(UsdGeom.Tokens.invisible)
    _collide(ground, UsdPhysics.Tokens.none)


def _place(prim: Any, matrix: Float64[np.ndarray, "4 4"], name: str) -> None:
    """Gives an Xformable a rigid placement, as a translation and an orientation, without a scale."""
    (x, y, z), (i, j, k, w) = pose(matrix, name)
    prim.AddTranslateOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Vec3d(x, y, z))
    prim.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Quatd(w, i, j, k))


def _write_component(folder: Path, group: str, part: Part) -> list[str]:
    """Writes one component and returns its files. With a body it is one that moves, unless it is held."""
    solid = part.rigid
    home = folder / group / part.name
    home.mkdir(parents=True, exist_ok=True)
    pictures = {BASE_COLOR: part.mesh.base_color}
    if part.mesh.metallic_roughness is not None:
        pictures[METALLIC_ROUGHNESS] = part.mesh.metallic_roughness
    for file, picture in pictures.items():
        write_png(home / file, picture)
    write_materialx(home / MATERIALX, part.name, openpbr(part.mesh, BASE_COLOR, METALLIC_ROUGHNESS))
    mesh = part.mesh.transformed(USD_FROM_WORLD)
    _write_payload(home / "payload.usdc", part, mesh)

    stage = _new_stage(Sdf.Layer.CreateNew(str(home / f"{part.name}.usd"), args={"format": "usda"}))
    class_path = f"/__class__/{part.name}"
    stage.CreateClassPrim("/__class__")
    stage.CreateClassPrim(class_path)
    root = UsdGeom.Xform.Define(stage, f"/{part.name}").GetPrim()
    stage.SetDefaultPrim(root)
    Usd.ModelAPI(root).SetKind(Kind.Tokens.component)
    root.GetInherits().AddInherit(class_path)
    root.GetPayloads().AddPayload("./payload.usdc")
    UsdGeom.ModelAPI.Apply(root).SetExtentsHint(_extent(mesh.vertices))
    if part.label:
        UsdSemantics.LabelsAPI.Apply(root, "class").CreateLabelsAttr([part.label])
    UsdSemantics.LabelsAPI.Apply(root, "instance").CreateLabelsAttr([part.name])
    if solid is not None:
        UsdPhysics.RigidBodyAPI.Apply(root).CreateKinematicEnabledAttr(solid.held)
        inertia = UsdPhysics.MassAPI.Apply(root)
        inertia.CreateMassAttr(solid.mass)
        inertia.CreateCenterOfMassAttr(Gf.Vec3f(*(USD_FROM_WORLD[:3, :3] @ solid.body.centre_of_mass).tolist()))
    root.SetCustomDataByKey("scenegen", {"label": part.label, **part.facts})
    for name, value in part.facts.items():
        # Blender takes attributes of this namespace for custom properties, and no custom data.
        root.CreateAttribute(f"userProperties:{name}", USER_TYPES[type(value)], custom=True).Set(value)
    named = {"asset_name": part.name, "asset_type": "prop" if group == "objects" else "environment"}
    category = {"category": part.label} if part.label else {}
    stage.GetRootLayer().customLayerData = {
        **named,
        "SimReady_Metadata": {**named, **category, "author": GENERATOR},
    }
    stage.GetRootLayer().Save()
    return [f"{group}/{part.name}/{file}" for file in (f"{part.name}.usd", "payload.usdc", MATERIALX, *pictures)]


def _write_payload(path: Path, part: Part, mesh: TexturedMesh) -> None:
    stage = _new_stage(Sdf.Layer.CreateNew(str(path)))
    root = UsdGeom.Xform.Define(stage, f"/{part.name}").GetPath()
    stage.SetDefaultPrim(stage.GetPrimAtPath(root))
    UsdGeom.Scope.Define(stage, f"{root}/geo")
    UsdGeom.Scope.Define(stage, f"{root}/mtl")
    points, place = welded(mesh.vertices)
    shown = _define_mesh(stage, f"{root}/geo/{part.name}", points, place[mesh.faces])
    # Texture coordinates belong to the corners of faces, so that seams do not open the surface.
    uv, corner = np.unique(mesh.uv, axis=0, return_inverse=True)
    st = UsdGeom.PrimvarsAPI(shown).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying)
    # USD counts the rows of a picture from the bottom.
    st.Set(Vt.Vec2fArray.FromNumpy((uv * [1, -1] + [0, 1]).astype(np.float32)))
    st.SetIndices(Vt.IntArray.FromNumpy(corner.ravel()[mesh.faces.ravel()].astype(np.int32)))
    material = _define_material(stage, f"{root}/mtl/{part.name}", mesh)
    UsdShade.MaterialBindingAPI.Apply(shown.GetPrim()).Bind(material)
    if part.rigid is None or not part.rigid.body.closed or alpha_mode(mesh.base_color) != "OPAQUE":
        shown.CreateDoubleSidedAttr(True)
    _define_colliders(stage, root, part)
    stage.GetRootLayer().Save()


def _define_colliders(stage: Any, root: Sdf.Path, part: Part) -> None:
    """What a part collides with: the parts of a body that moves lie in an instance.

    Beside them is the hull of them all, switched off, for tools that know of one collider a body: a traversal that leaves
    out instances meets it alone.
    """
    home = f"{root}/geo"
    if part.rigid is None:
        for name, shape in _named(part.hulls):
            _define_collider(stage, f"{home}/{name}", shape)
        return
    if len(part.hulls) == 1:
        collider = _define_collider(stage, f"{home}/collider", part.hulls[0])
        _bind_physics(collider, _define_physics_material(stage, f"{root}/mtl/physics", part.rigid.substance))
        return
    stage.CreateClassPrim(COLLIDERS)
    touched = _define_physics_material(stage, f"{COLLIDERS}/physics", part.rigid.substance)
    for name, shape in _named(part.hulls):
        _bind_physics(_define_collider(stage, f"{COLLIDERS}/{name}", shape), touched)
    parts = UsdGeom.Xform.Define(stage, f"{home}/colliders").GetPrim()
    parts.GetReferences().AddInternalReference(COLLIDERS)
    parts.SetInstanceable(True)
    whole = _define_collider(stage, f"{home}/collider", hull(np.concatenate([each.vertices for each in part.hulls])))
    UsdPhysics.CollisionAPI(whole).CreateCollisionEnabledAttr(False)


def _bind_physics(collider: Any, material: Any) -> None:
    binding = UsdShade.MaterialBindingAPI.Apply(collider.GetPrim())
    binding.Bind(material, UsdShade.Tokens.weakerThanDescendants, "physics")


def _named(hulls: Sequence[Hull]) -> list[tuple[str, Hull]]:
    return [("collider" if len(hulls) == 1 else f"collider_{number:02d}", each) for number, each in enumerate(hulls)]


def _define_collider(stage: Any, path: str, shape: Hull) -> Any:
    """A mesh, also for a box: that lies along the axes of its own frame, so that whatever box is fitted to it is the same."""
    turn = USD_FROM_WORLD[:3, :3]
    box = shape.box
    points = shape.vertices if box is None else (shape.vertices - box.centre) @ box.turn
    mesh = _define_mesh(stage, path, (points @ turn.T).astype(np.float32), shape.faces)
    if box is not None:
        place = np.eye(4)
        place[:3, :3], place[:3, 3] = turn @ box.turn @ turn.T, turn @ box.centre
        _place(mesh, place, path)
    mesh.CreatePurposeAttr(UsdGeom.Tokens.guide)
    mesh.CreateVisibilityAttr(UsdGeom.Tokens.invisible)
    _collide(mesh, UsdPhysics.Tokens.convexHull if box is None else UsdPhysics.Tokens.boundingCube)
    return mesh


def _define_mesh(stage: Any, path: str, vertices: Float[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]) -> Any:
    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(vertices)))
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray(len(faces), 3))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(faces.ravel()))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(vertex_normals(vertices, faces)))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    mesh.CreateExtentAttr(_extent(vertices))
    return mesh


def _define_material(stage: Any, path: str, mesh: TexturedMesh) -> Any:
    material = UsdShade.Material.Define(stage, path)
    reader = UsdShade.Shader.Define(stage, f"{path}/st")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    texture = _define_texture(stage, reader, BASE_COLOR, "sRGB")
    surface = UsdShade.Shader.Define(stage, f"{path}/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(
        texture.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    )
    metallic = surface.CreateInput("metallic", Sdf.ValueTypeNames.Float)
    roughness = surface.CreateInput("roughness", Sdf.ValueTypeNames.Float)
    if mesh.metallic_roughness is None:
        metallic.Set(mesh.metallic)
        roughness.Set(mesh.roughness)
    else:
        packed = _define_texture(stage, reader, METALLIC_ROUGHNESS, "raw")
        metallic.ConnectToSource(packed.CreateOutput("b", Sdf.ValueTypeNames.Float))
        roughness.ConnectToSource(packed.CreateOutput("g", Sdf.ValueTypeNames.Float))
    mode = alpha_mode(mesh.base_color)
    if mode != "OPAQUE":
        alpha = texture.CreateOutput("a", Sdf.ValueTypeNames.Float)
        surface.CreateInput("opacity", Sdf.ValueTypeNames.Float).ConnectToSource(alpha)
    if mode == "MASK":
        surface.CreateInput("opacityThreshold", Sdf.ValueTypeNames.Float).Set(ALPHA_CUTOFF)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", Sdf.ValueTypeNames.Token))
    _add_openpbr(stage, material, mesh)
    return material


def _add_openpbr(stage: Any, material: Any, mesh: TexturedMesh) -> None:
    """OpenPBR beside the preview surface, in a variant that is not chosen.

    USD without MaterialX's definitions, such as that of PyPI, takes its shaders for unknown, and so does its validator.
    """
    choice = material.GetPrim().GetVariantSets().AddVariantSet(SHADING)
    for name in (PREVIEW, OPENPBR):
        choice.AddVariant(name)
    choice.SetVariantSelection(OPENPBR)
    with choice.GetVariantEditContext():
        material.GetPrim().AddAppliedSchema("MaterialXConfigAPI")
        material.GetPrim().CreateAttribute("config:mtlx:version", Sdf.ValueTypeNames.String, custom=False).Set(VERSION)
        made: dict[str, Any] = {}
        for node in openpbr(mesh, BASE_COLOR, METALLIC_ROUGHNESS):
            shader = UsdShade.Shader.Define(stage, material.GetPath().AppendChild(f"{OPENPBR}_{node.name}"))
            shader.CreateIdAttr(node.definition)
            made[node.name] = shader.CreateOutput("out", MATERIALX_TYPES[node.type])
            for item in node.inputs:
                _set_input(shader, item, made)
        material.CreateSurfaceOutput("mtlx").ConnectToSource(made[SURFACE])
    choice.SetVariantSelection(PREVIEW)


def _set_input(shader: Any, item: Input, made: Mapping[str, Any]) -> None:
    place = shader.CreateInput(item.name, MATERIALX_TYPES[item.type])
    if item.source is not None:
        place.ConnectToSource(made[item.source])
        return
    place.Set(f"./{item.value}" if item.type == "filename" else item.value)
    if item.color_space is not None:
        place.GetAttr().SetColorSpace(item.color_space)


def _define_physics_material(stage: Any, path: str, substance: Substance) -> Any:
    material = UsdShade.Material.Define(stage, path)
    touched = UsdPhysics.MaterialAPI.Apply(material.GetPrim())
    touched.CreateStaticFrictionAttr(substance.friction)
    touched.CreateDynamicFrictionAttr(substance.friction)
    touched.CreateRestitutionAttr(substance.restitution)
    return material


def _define_texture(stage: Any, reader: Any, file: str, color_space: str) -> Any:
    """A texture next to the component, sampled at the coordinates of `reader`."""
    texture = UsdShade.Shader.Define(stage, reader.GetPath().ReplaceName(Path(file).stem))
    texture.CreateIdAttr("UsdUVTexture")
    texture.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(f"./{file}")
    texture.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set(color_space)
    texture.CreateInput("wrapS", Sdf.ValueTypeNames.Token).Set("clamp")
    texture.CreateInput("wrapT", Sdf.ValueTypeNames.Token).Set("clamp")
    texture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(
        reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    )
    return texture


def _collide(mesh: Any, approximation: str) -> None:
    UsdPhysics.CollisionAPI.Apply(mesh.GetPrim())
    UsdPhysics.MeshCollisionAPI.Apply(mesh.GetPrim()).CreateApproximationAttr(approximation)


def _extent(vertices: Float[np.ndarray, "v 3"]) -> Any:
    return Vt.Vec3fArray([Gf.Vec3f(*corner.tolist()) for corner in (vertices.min(axis=0), vertices.max(axis=0))])
