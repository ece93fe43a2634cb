from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from export.toy_scene import box, varied
from physics.bowls import bowl
from PIL import Image
from pxr import Ar, Gf, Kind, Sdf, Usd, UsdGeom, UsdLux, UsdPhysics, UsdSemantics, UsdShade

from scenegen.camera import USD_FROM_WORLD, project, transform
from scenegen.errors import ExportError
from scenegen.export.bodies import body_remarks, with_bodies
from scenegen.export.materialx import openpbr
from scenegen.export.parts import GENERATOR, PartScene
from scenegen.export.usd import validate_stage, write_usd, write_usdz
from scenegen.geometry.mesh import TexturedMesh, joined
from scenegen.geometry.solid import is_closed, welded
from scenegen.messages.remarks import note

DENSITY = 500.0
OF_A_BOX = 200.0
"""What is assumed of things that are called so."""


def written(folder: Path, scene: PartScene) -> dict[str, bytes]:
    """Every file of the scene, the package included, by name."""
    folder.mkdir(exist_ok=True)
    files = write_usd(folder, with_bodies(scene, DENSITY, 16))
    write_usdz(folder / "scene.usdz", scene, folder)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert set(found) == {*files, "scene.usdz"}
    return found


@pytest.fixture
def folder(part_scene: PartScene, tmp_path: Path) -> Path:
    written(tmp_path, part_scene)
    return tmp_path


@pytest.fixture
def varied_folder(part_scene: PartScene, tmp_path: Path) -> Path:
    written(tmp_path, varied(part_scene))
    return tmp_path


def shown_mesh(stage: Usd.Stage, name: str) -> UsdGeom.Mesh:
    return UsdGeom.Mesh(stage.GetPrimAtPath(f"/scene/objects/{name}/geo/{name}"))


@pytest.mark.parametrize("kind", ["folder", "varied_folder"])
@pytest.mark.parametrize("file", ["scene.usd", "scene.usdz"])
def test_every_usd_validator_finds_nothing(kind: str, file: str, request: pytest.FixtureRequest) -> None:
    assert validate_stage(request.getfixturevalue(kind) / file) == []


@pytest.mark.parametrize("kind", ["folder", "varied_folder"])
def test_components_are_valid_by_themselves(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    for path in [*folder.glob("objects/*/*.usd"), *folder.glob("background/*/*.usd")]:
        assert validate_stage(path) == []


def test_an_empty_scene_is_valid(part_scene: PartScene, tmp_path: Path) -> None:
    written(tmp_path, replace(part_scene, objects=(), background=()))
    assert validate_stage(tmp_path / "scene.usd") == []
    assert validate_stage(tmp_path / "scene.usdz") == []


def test_the_validators_are_awake(part_scene: PartScene, tmp_path: Path) -> None:
    written(tmp_path / "whole", part_scene)
    gone = tmp_path / "gone"
    written(gone, part_scene)
    (gone / "objects/obj_02/payload.usdc").unlink()
    assert any("payload.usdc" in finding for finding in validate_stage(gone / "scene.usd"))
    (tmp_path / "text.usd").write_text("not USD")
    assert validate_stage(tmp_path / "text.usd")[0].startswith("text.usd cannot be opened")
    assert validate_stage(tmp_path / "absent.usd")[0].startswith("absent.usd cannot be opened")


@pytest.mark.parametrize("file", ["scene.usd", "scene.usdz"])
def test_the_exported_camera_sees_every_vertex_at_its_pixel(part_scene: PartScene, folder: Path, file: str) -> None:
    stage = Usd.Stage.Open(str(folder / file))
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/scene/camera")).GetCamera(Usd.TimeCode.Default())
    clip_from_world = np.array(camera.frustum.ComputeViewMatrix() * camera.frustum.ComputeProjectionMatrix()).T
    width, height = part_scene.intrinsics.width, part_scene.intrinsics.height
    for part in part_scene.objects:
        world = transform(part.world_from_part, welded(part.mesh.vertices)[0].astype(np.float64))
        wanted = project(part_scene.intrinsics, transform(np.linalg.inv(part_scene.world_from_camera), world))
        mesh = shown_mesh(stage, part.name)
        place = np.array(UsdGeom.Xformable(mesh).ComputeLocalToWorldTransform(Usd.TimeCode.Default())).T
        points = transform(place, np.array(mesh.GetPointsAttr().Get(), dtype=np.float64))
        clip = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ clip_from_world.T
        ndc = clip[:, :2] / clip[:, 3:]
        seen = (ndc * [1, -1] + 1) / 2 * [width, height]
        assert np.abs(seen - wanted).max() < 0.01


def test_the_lens_is_that_of_a_frame_36_mm_wide(folder: Path, part_scene: PartScene) -> None:
    stage = Usd.Stage.Open(str(folder / "scene.usd"))
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/scene/camera"))
    tenth_mm = 100 * UsdGeom.GetStageMetersPerUnit(stage)
    assert tenth_mm * camera.GetHorizontalApertureAttr().Get() == pytest.approx(36)
    intrinsics = part_scene.intrinsics
    assert tenth_mm * camera.GetFocalLengthAttr().Get() == pytest.approx(36 * intrinsics.fx / intrinsics.width)


def test_names_are_those_of_the_objects_wherever_an_importer_looks(folder: Path, part_scene: PartScene) -> None:
    """Blender names what it imports by the prims of meshes and of materials."""
    stage = Usd.Stage.Open(str(folder / "scene.usd"))
    for part in part_scene.objects:
        mesh = shown_mesh(stage, part.name)
        material, _ = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()
        assert mesh.GetPrim().GetName() == material.GetPrim().GetName() == part.name


def test_metres_kilograms_and_gravity_follow_the_up_axis(folder: Path) -> None:
    for file, axis, down in (("scene.usd", "Z", (0, 0, -1)), ("scene.usdz", "Y", (0, -1, 0))):
        stage = Usd.Stage.Open(str(folder / file))
        assert UsdGeom.GetStageUpAxis(stage) == axis
        assert UsdGeom.GetStageMetersPerUnit(stage) == 1
        assert UsdPhysics.GetStageKilogramsPerUnit(stage) == 1
        physics = UsdPhysics.Scene(stage.GetPrimAtPath("/scene/physics"))
        assert physics.GetGravityDirectionAttr().Get() == Gf.Vec3f(*down)
        box = UsdGeom.BBoxCache(Usd.TimeCode.Default(), ["default"]).ComputeWorldBound(
            stage.GetPrimAtPath("/scene/background/backdrop")
        )
        low, high = box.ComputeAlignedRange().GetMin(), box.ComputeAlignedRange().GetMax()
        upwards = "XYZ".index(axis)
        assert (low[upwards], high[upwards]) == pytest.approx((0, 3))


def test_the_model_hierarchy_is_an_assembly_of_components(part_scene: PartScene, folder: Path) -> None:
    stage = Usd.Stage.Open(str(folder / "scene.usd"))
    root = stage.GetDefaultPrim()
    assert root.GetPath() == "/scene"
    assert stage.GetPseudoRoot().GetChildren() == [root]
    assert Usd.ModelAPI(root).GetKind() == Kind.Tokens.assembly
    for group, parts in (("objects", part_scene.objects), ("background", part_scene.background)):
        prim = stage.GetPrimAtPath(f"/scene/{group}")
        assert Usd.ModelAPI(prim).GetKind() == Kind.Tokens.group
        assert [child.GetName() for child in prim.GetChildren()] == [part.name for part in parts]
        for child in prim.GetChildren():
            assert Usd.ModelAPI(child).GetKind() == Kind.Tokens.component
            assert [grandchild.GetTypeName() for grandchild in child.GetChildren()] == ["Scope", "Scope"]
            assert len(UsdGeom.ModelAPI(child).GetExtentsHint()) == 2
            operations = UsdGeom.Xformable(child).GetOrderedXformOps()
            assert [op.GetOpName() for op in operations] == ["xformOp:translate", "xformOp:orient"]
    unloaded = Usd.Stage.Open(str(folder / "scene.usd"), Usd.Stage.LoadNone)
    box = unloaded.GetPrimAtPath("/scene/objects/obj_01_box")
    assert not box.GetChildren()
    assert UsdSemantics.LabelsAPI(box, "class").GetLabelsAttr().Get() == ["box"]


def test_a_class_can_restyle_every_copy_of_an_object(folder: Path) -> None:
    stage = Usd.Stage.Open(str(folder / "objects/obj_02/obj_02.usd"))
    stage.OverridePrim("/__class__/obj_02/geo/obj_02").CreateAttribute("note", Sdf.ValueTypeNames.String).Set("seen")
    assert stage.GetPrimAtPath("/obj_02/geo/obj_02").GetAttribute("note").Get() == "seen"


def test_labels_keep_any_text(part_scene: PartScene, folder: Path) -> None:
    stage = Usd.Stage.Open(str(folder / "scene.usd"))
    for part in part_scene.objects:
        prim = stage.GetPrimAtPath(f"/scene/objects/{part.name}")
        labels = UsdSemantics.LabelsAPI(prim, "class").GetLabelsAttr()
        assert (list(labels.Get()) if labels else []) == ([part.label] if part.label else [])
        assert list(UsdSemantics.LabelsAPI(prim, "instance").GetLabelsAttr().Get()) == [part.name]
        known = prim.GetCustomDataByKey("scenegen")
        assert known.items() >= {"label": part.label, "mass_from": "mesh", **part.facts}.items()
        for name, value in part.facts.items():
            assert prim.GetAttribute(f"userProperties:{name}").Get() == value
    provenance = stage.GetRootLayer().customLayerData["scenegen"]
    assert provenance == {"generator": GENERATOR, **part_scene.facts}


def test_meshes_are_what_was_given(part_scene: PartScene, folder: Path) -> None:
    stage = Usd.Stage.Open(str(folder / "scene.usd"))
    for part in part_scene.objects:
        mesh = shown_mesh(stage, part.name)
        points, faces = np.array(mesh.GetPointsAttr().Get()), np.array(mesh.GetFaceVertexIndicesAttr().Get())
        x, y, z = part.mesh.vertices[part.mesh.faces.ravel()].T
        np.testing.assert_array_equal(points[faces], np.stack([x, -z, y], axis=-1))
        assert set(mesh.GetFaceVertexCountsAttr().Get()) == {3}
        assert mesh.GetSubdivisionSchemeAttr().Get() == "none"
        st = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st")
        assert st.GetInterpolation() == UsdGeom.Tokens.faceVarying
        corners = part.mesh.uv[part.mesh.faces.ravel()]
        np.testing.assert_allclose(np.array(st.ComputeFlattened()) * [1, -1] + [0, 1], corners, atol=1e-6)
        assert not mesh.GetDoubleSidedAttr().Get()
        assert mesh.GetNormalsInterpolation() == UsdGeom.Tokens.vertex
        np.testing.assert_allclose(np.linalg.norm(mesh.GetNormalsAttr().Get(), axis=1), 1, atol=1e-6)
        for boundable in (mesh, UsdGeom.Mesh(stage.GetPrimAtPath(f"/scene/objects/{part.name}/geo/collider"))):
            points = np.array(boundable.GetPointsAttr().Get())
            extent = np.array(boundable.GetExtentAttr().Get())
            np.testing.assert_array_equal(extent, [points.min(axis=0), points.max(axis=0)])


def cut_open(mesh: TexturedMesh) -> TexturedMesh:
    """With a seam along every edge."""
    corners = mesh.faces.ravel()
    faces = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    return replace(mesh, vertices=mesh.vertices[corners], faces=faces, uv=mesh.uv[corners])


@pytest.mark.parametrize("file", ["scene.usd", "scene.usdz"])
def test_meshes_are_closed_as_they_are_written(part_scene: PartScene, tmp_path: Path, file: str) -> None:
    """Seams split the vertices of `TexturedMesh`, and no point of the USD mesh; normals stand on the faces around a point."""
    seamed = replace(part_scene, objects=tuple(replace(part, mesh=cut_open(part.mesh)) for part in part_scene.objects))
    written(tmp_path, seamed)
    stage = Usd.Stage.Open(str(tmp_path / file))
    for part in seamed.objects:
        assert not is_closed(part.mesh.faces)
        mesh = shown_mesh(stage, part.name)
        points = np.array(mesh.GetPointsAttr().Get())
        faces = np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
        assert is_closed(faces)
        assert len(np.unique(points, axis=0)) == len(points)
        normals = np.array(mesh.GetNormalsAttr().Get())
        outwards = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
        assert (np.einsum("fcd,fd->fc", normals[faces], outwards) > 0).all()


def test_solids_that_touch_have_their_own_mass(part_scene: PartScene, tmp_path: Path) -> None:
    """Two boxes that share an edge: the hull of both would be half as heavy again."""
    first = box((0.2, 0.3, 0.4), (200, 10, 10))
    vertices, faces = joined([first.vertices, first.vertices + np.float32([0.2, 0.3, 0])], [first.faces, first.faces])
    both = replace(first, vertices=vertices, faces=faces, uv=np.concatenate([first.uv, first.uv]))
    part, *others = part_scene.objects
    bodied = with_bodies(replace(part_scene, objects=(replace(part, mesh=both), *others)), DENSITY, 16)
    write_usd(tmp_path, bodied)
    assert body_remarks(bodied) == ()
    stage = Usd.Stage.Open(str(tmp_path / "scene.usd"))
    mass = UsdPhysics.MassAPI(stage.GetPrimAtPath(f"/scene/objects/{part.name}")).GetMassAttr().Get()
    assert mass == pytest.approx(2 * 0.2 * 0.3 * 0.4 * OF_A_BOX, rel=1e-5)


def test_materials_show_the_texture_beside_them(part_scene: PartScene, folder: Path) -> None:
    stage = Usd.Stage.Open(str(folder / "scene.usd"))
    for part in part_scene.objects:
        material, _ = UsdShade.MaterialBindingAPI(shown_mesh(stage, part.name)).ComputeBoundMaterial()
        surface = material.ComputeSurfaceSource()[0]
        assert surface.GetIdAttr().Get() == "UsdPreviewSurface"
        assert surface.GetInput("roughness").Get() == pytest.approx(part.mesh.roughness)
        assert surface.GetInput("metallic").Get() == pytest.approx(part.mesh.metallic)
        source = surface.GetInput("diffuseColor").GetConnectedSources()[0][0].source
        texture = UsdShade.Shader(source.GetPrim())
        assert texture.GetInput("sourceColorSpace").Get() == "sRGB"
        file = texture.GetInput("file").Get()
        assert file.path == "./base_color.png"
        picture = cv2.cvtColor(cv2.imread(file.resolvedPath), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(picture, part.mesh.base_color)


@pytest.mark.parametrize("file", ["scene.usd", "scene.usdz"])
def test_materials_vary_as_their_textures_do(part_scene: PartScene, varied_folder: Path, file: str) -> None:
    stage = Usd.Stage.Open(str(varied_folder / file))

    def source(surface: UsdShade.Shader, name: str, color_space: str) -> tuple[str, np.ndarray]:
        """The output an input is connected to, and the texels of the texture it belongs to."""
        ((connection,), _) = surface.GetInput(name).GetConnectedSources()
        texture = UsdShade.Shader(connection.source.GetPrim())
        assert texture.GetIdAttr().Get() == "UsdUVTexture"
        assert texture.GetInput("sourceColorSpace").Get() == color_space
        asset = Ar.GetResolver().OpenAsset(Ar.ResolvedPath(texture.GetInput("file").Get().resolvedPath))
        return connection.sourceName, np.asarray(Image.open(io.BytesIO(bytes(asset.GetBuffer()))))

    modes = {"obj_01_box": None, "obj_02": 0.5, "obj_03_tasse": 0.0}
    for part in varied(part_scene).objects:
        mesh = shown_mesh(stage, part.name)
        material, _ = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()
        surface = material.ComputeSurfaceSource()[0]
        threshold = modes[part.name]
        output, picture = source(surface, "diffuseColor", "sRGB")
        assert output == "rgb"
        np.testing.assert_array_equal(picture, part.mesh.base_color[..., : 3 if threshold is None else 4])
        assert bool(mesh.GetDoubleSidedAttr().Get()) == (threshold is not None)
        if threshold is None:
            assert not surface.GetInput("opacity")
        else:
            assert source(surface, "opacity", "sRGB")[0] == "a"
            np.testing.assert_array_equal(source(surface, "opacity", "sRGB")[1], picture)
        limit = surface.GetInput("opacityThreshold")
        assert (limit.Get() if limit else 0.0) == (threshold or 0.0)
        packed = part.mesh.metallic_roughness
        for name, channel in (("roughness", "g"), ("metallic", "b")):
            if packed is None:
                assert surface.GetInput(name).Get() == pytest.approx(getattr(part.mesh, name))
                assert not surface.GetInput(name).HasConnectedSource()
            else:
                output, picture = source(surface, name, "raw")
                assert output == channel
                np.testing.assert_array_equal(picture, packed)


def test_a_variant_of_each_material_is_openpbr(part_scene: PartScene, varied_folder: Path) -> None:
    stage = Usd.Stage.Open(str(varied_folder / "scene.usd"))
    for part in varied(part_scene).objects:
        material, _ = UsdShade.MaterialBindingAPI(shown_mesh(stage, part.name)).ComputeBoundMaterial()
        variants = material.GetPrim().GetVariantSet("shading")
        assert (variants.GetVariantNames(), variants.GetVariantSelection()) == (["openpbr", "preview"], "preview")
        assert not material.GetSurfaceOutput("mtlx")
        variants.SetVariantSelection("openpbr")
        assert material.ComputeSurfaceSource()[0].GetIdAttr().Get() == "UsdPreviewSurface"
        surface = material.ComputeSurfaceSource("mtlx")[0]
        assert surface.GetIdAttr().Get() == "ND_open_pbr_surface_surfaceshader"
        waiting, ids = [surface], []
        while waiting:
            shader = waiting.pop()
            ids.append(shader.GetIdAttr().Get())
            sources = [UsdShade.ConnectableAPI(shader).GetConnectedSources(each)[0] for each in shader.GetInputs()]
            waiting += [UsdShade.Shader(found[0].source.GetPrim()) for found in sources if found]
            if file := shader.GetInput("file"):
                assert Path(file.Get().resolvedPath).is_file()
                colour = file.Get().path == "./base_color.png"
                assert file.GetAttr().GetColorSpace() == ("srgb_texture" if colour else "")
        wanted = openpbr(part.mesh, "base_color.png", "metallic_roughness.png")
        assert set(ids) == {node.definition for node in wanted}


def test_objects_are_rigid_bodies_with_a_hull(folder: Path) -> None:
    stage = Usd.Stage.Open(str(folder / "scene.usd"))
    box = stage.GetPrimAtPath("/scene/objects/obj_01_box")
    assert box.HasAPI(UsdPhysics.RigidBodyAPI)
    assert UsdPhysics.MassAPI(box).GetMassAttr().Get() == pytest.approx(0.4 * 0.6 * 0.2 * OF_A_BOX, rel=1e-5)
    assert UsdPhysics.MassAPI(box).GetCenterOfMassAttr().Get() == pytest.approx((0, 0, 0.3), abs=1e-6)
    assert not UsdPhysics.RigidBodyAPI(box).GetKinematicEnabledAttr().Get()
    for prim in stage.GetPrimAtPath("/scene/objects").GetChildren():
        collider = stage.GetPrimAtPath(prim.GetPath().AppendPath("geo/collider"))
        assert collider.HasAPI(UsdPhysics.CollisionAPI)
        shape = "boundingCube" if prim == box else "convexHull"
        assert UsdPhysics.MeshCollisionAPI(collider).GetApproximationAttr().Get() == shape
        assert UsdGeom.Imageable(collider).GetPurposeAttr().Get() == "guide"
        assert 4 <= len(UsdGeom.Mesh(collider).GetPointsAttr().Get()) <= 64
        assert not stage.GetPrimAtPath(prim.GetPath().AppendPath(f"geo/{prim.GetName()}")).HasAPI(
            UsdPhysics.CollisionAPI
        )
        material, _ = UsdShade.MaterialBindingAPI(collider).ComputeBoundMaterial("physics")
        assert 0 < UsdPhysics.MaterialAPI(material).GetStaticFrictionAttr().Get() < 1


def test_a_concave_object_collides_in_parts_and_one_that_is_held_does_not_move(
    part_scene: PartScene, tmp_path: Path
) -> None:
    ring = trimesh.creation.annulus(0.1, 0.2, 0.1)
    part = part_scene.objects[0]
    uv = np.zeros((len(ring.vertices), 2), np.float32)
    mesh = replace(part.mesh, vertices=ring.vertices.astype(np.float32), faces=ring.faces.astype(np.int32), uv=uv)
    held = replace(part, mesh=mesh, facts={**part.facts, "support": "background"})
    write_usd(tmp_path, with_bodies(replace(part_scene, objects=(held,)), DENSITY, 8))
    stage = Usd.Stage.Open(str(tmp_path / "scene.usd"))
    prim = stage.GetPrimAtPath(f"/scene/objects/{part.name}")
    assert UsdPhysics.RigidBodyAPI(prim).GetKinematicEnabledAttr().Get()
    assert prim.GetCustomDataByKey("scenegen:held")
    everything = Usd.PrimRange(prim, Usd.TraverseInstanceProxies(Usd.PrimDefaultPredicate))
    colliders = [UsdPhysics.CollisionAPI(child) for child in everything if child.HasAPI(UsdPhysics.CollisionAPI)]
    parts = [each for each in colliders if each.GetCollisionEnabledAttr().Get()]
    assert 4 <= len(parts) <= 8
    assert len(parts) == prim.GetCustomDataByKey("scenegen:colliders")
    for each in parts:
        material, _ = UsdShade.MaterialBindingAPI(each).ComputeBoundMaterial("physics")
        assert UsdPhysics.MaterialAPI(material).GetStaticFrictionAttr().Get() > 0


def test_who_looks_into_no_instance_meets_one_collider_a_body(part_scene: PartScene, tmp_path: Path) -> None:
    """The hull of all parts: switched off, so that nothing is kept out of what is hollow."""
    part = part_scene.objects[0]
    solid = bowl()
    uv = np.zeros((len(solid.vertices), 2), np.float32)
    mesh = replace(part.mesh, vertices=solid.vertices.astype(np.float32), faces=solid.faces.astype(np.int32), uv=uv)
    written(tmp_path, replace(part_scene, objects=(replace(part, mesh=mesh), *part_scene.objects[1:])))
    stage = Usd.Stage.Open(str(tmp_path / "scene.usd"))
    for other in part_scene.objects:
        home = f"/scene/objects/{other.name}"
        met = [child for child in Usd.PrimRange(stage.GetPrimAtPath(home)) if child.HasAPI(UsdPhysics.CollisionAPI)]
        assert [str(child.GetPath()) for child in met] == [f"{home}/geo/collider"]
    collider = stage.GetPrimAtPath(f"/scene/objects/{part.name}/geo/collider")
    assert not UsdPhysics.CollisionAPI(collider).GetCollisionEnabledAttr().Get()
    outline = trimesh.convex.convex_hull(np.array(UsdGeom.Mesh(collider).GetPointsAttr().Get()))
    assert outline.volume == pytest.approx(solid.convex_hull.volume, rel=0.1)
    assert validate_stage(tmp_path / "scene.usd") == []
    assert validate_stage(tmp_path / "scene.usdz") == []


def test_the_ground_and_the_background_hold_everything(folder: Path, part_scene: PartScene) -> None:
    stage = Usd.Stage.Open(str(folder / "scene.usd"))
    ground = stage.GetPrimAtPath("/scene/ground")
    assert UsdPhysics.MeshCollisionAPI(ground).GetApproximationAttr().Get() == "none"
    points = np.array(UsdGeom.Mesh(ground).GetPointsAttr().Get())
    assert (points[:, 2] == 0).all()
    for part in (*part_scene.objects, *part_scene.background):
        world = transform(USD_FROM_WORLD @ part.world_from_part, part.mesh.vertices.astype(float))[:, :2]
        assert (points[:, :2].min(0) < world.min(0)).all()
        assert (points[:, :2].max(0) > world.max(0)).all()
    still = [*Usd.PrimRange(stage.GetPrimAtPath("/scene/background")), ground]
    assert not any(prim.HasAPI(UsdPhysics.RigidBodyAPI) for prim in still)
    solid = {
        prim.GetPath().GetParentPath().GetParentPath().name for prim in still if prim.HasAPI(UsdPhysics.CollisionAPI)
    }
    assert solid == {"backdrop", "/"}  # the ground lies below the floor


def test_the_scene_is_lit_evenly(folder: Path) -> None:
    stage = Usd.Stage.Open(str(folder / "scene.usd"))
    light = UsdLux.DomeLight(stage.GetPrimAtPath("/scene/light"))
    assert light.GetIntensityAttr().Get() == 1


def test_an_open_mesh_is_weighed_by_its_hull_and_says_so(part_scene: PartScene, tmp_path: Path) -> None:
    box = part_scene.objects[0]
    opened = replace(box, mesh=replace(box.mesh, faces=box.mesh.faces[1:]))
    bodied = with_bodies(replace(part_scene, objects=(opened,)), DENSITY, 16)
    write_usd(tmp_path, bodied)
    assert body_remarks(bodied) == (
        note("obj_01_box: the mesh is not closed, so its mass is that of its convex hull."),
    )
    stage = Usd.Stage.Open(str(tmp_path / "scene.usd"))
    prim = stage.GetPrimAtPath("/scene/objects/obj_01_box")
    assert prim.GetCustomDataByKey("scenegen:mass_from") == "convex hull"
    assert shown_mesh(stage, "obj_01_box").GetDoubleSidedAttr().Get()  # its inside can be seen
    assert UsdPhysics.MassAPI(prim).GetMassAttr().Get() == pytest.approx(0.4 * 0.6 * 0.2 * OF_A_BOX, rel=1e-5)


@pytest.mark.parametrize("change", [lambda scene: scene, varied], ids=["plain", "varied"])
def test_the_same_scene_gives_the_same_bytes_anywhere(part_scene: PartScene, tmp_path: Path, change) -> None:
    scene = change(part_scene)
    assert written(tmp_path / "a", scene) == written(tmp_path / "pho to [1] é@#%", scene)


def test_another_object_leaves_the_files_of_the_rest_alone(part_scene: PartScene, tmp_path: Path) -> None:
    first = written(tmp_path / "a", part_scene)
    _, middle, last = part_scene.objects
    other = replace(middle, mesh=replace(part_scene.objects[0].mesh), facts={**middle.facts, "seed": 7})
    second = written(tmp_path / "b", replace(part_scene, objects=(part_scene.objects[0], other, last)))
    changed = {name for name in first if first[name] != second[name]}
    own = {f"objects/obj_02/{file}" for file in ("obj_02.usd", "payload.usdc", "base_color.png")}
    assert changed == {*own, "scene.usd", "scene.usdz"}


def test_names_that_are_not_safe_are_refused(part_scene: PartScene, tmp_path: Path) -> None:
    stray = replace(part_scene.objects[0], name="../stray")
    with pytest.raises(ExportError, match="stray"):
        write_usd(tmp_path, with_bodies(replace(part_scene, objects=(stray,)), DENSITY, 16))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", ["folder", "varied_folder"])
def test_the_package_keeps_the_rules_of_arkit(kind: str, request: pytest.FixtureRequest) -> None:
    """One binary layer that comes first, PNG and JPEG only, stored, aligned, self-contained, plain materials."""
    folder = request.getfixturevalue(kind)
    path = folder / "scene.usdz"
    data = path.read_bytes()
    with zipfile.ZipFile(path) as package:
        entries = package.infolist()
    names = [entry.filename for entry in entries]
    assert names[0] == "scene.usdc"
    assert all(name.endswith((".png", ".jpg")) for name in names[1:])
    for entry in entries:
        assert (entry.compress_type, entry.flag_bits & 1) == (zipfile.ZIP_STORED, 0)
        name_length, extra_length = struct.unpack_from("<HH", data, entry.header_offset + 26)
        assert (entry.header_offset + 30 + name_length + extra_length) % 64 == 0
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
    stage = Usd.Stage.Open(str(path))
    assert stage.GetRootLayer().identifier.endswith("scene.usdz")
    assert UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y
    assert {Path(layer.realPath) for layer in stage.GetUsedLayers() if not layer.anonymous} == {path}
    assert not stage.GetDefaultPrim().IsInstanceable()
    known = {"Xform", "Scope", "Mesh", "Material", "Shader", "Camera", "PhysicsScene"}
    textures = set()
    for prim in stage.Traverse():
        assert prim.GetTypeName() in known
        if prim.IsA(UsdShade.Shader):
            assert UsdShade.Shader(prim).GetIdAttr().Get().startswith("Usd")
            file = UsdShade.Shader(prim).GetInput("file")
            if file:
                textures.add(file.Get().path)
        if prim.IsA(UsdGeom.Mesh) and UsdGeom.Imageable(prim).ComputePurpose() == "default":
            assert UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0]
    assert textures == set(names[1:])
