// The 3D view: a GLB, seen from the photo's camera or from anywhere.

import {
  Box3,
  Box3Helper,
  Color,
  DirectionalLight,
  HemisphereLight,
  MathUtils,
  Matrix4,
  MeshBasicMaterial,
  PerspectiveCamera,
  Raycaster,
  Scene,
  Vector2,
  Vector3,
  WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";

const ACCENT = new Color("#ffb020");
const DIMMED = new Color(0.32, 0.32, 0.32);
const CLICK_PIXELS = 4;

/** Whether this browser can draw in 3D. Asked first, so that three logs no error where it cannot. */
export function hasWebGL() {
  return document.createElement("canvas").getContext("webgl2") !== null;
}

/** The node of `root` that carries `name` in the file: the loader changes names, but keeps the original. */
function nodeNamed(root, name) {
  let found = null;
  root.traverse((node) => {
    if (found === null && (node.userData.name ?? node.name) === name) found = node;
  });
  return found;
}

function meshesOf(node) {
  const meshes = [];
  node.traverse((child) => {
    if (child.isMesh) meshes.push(child);
  });
  return meshes;
}

/** How far ahead of a camera the middle of meshes lies. */
function distanceTo(meshes, camera) {
  const bounds = new Box3();
  meshes.forEach((mesh) => bounds.expandByObject(mesh));
  return Math.max(-bounds.getCenter(new Vector3()).applyMatrix4(camera.matrixWorldInverse).z, 0.1);
}

/** The mesh's textures hold the photo's own light, so it is drawn unlit, unless shading is asked for. */
function addUnlit(mesh) {
  const { map, side, color } = mesh.material;
  mesh.userData.materials = { unlit: new MeshBasicMaterial({ map, side, color }), shaded: mesh.material };
  mesh.userData.color = color.clone();
  mesh.material = mesh.userData.materials.unlit;
}

/**
 * Loads the GLB and draws it into `canvas`.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ArrayBuffer} glb
 * @param {Map<number, string>} names node names of the objects by id
 * @param {(id: number | null) => void} onPick called with the object a click meets, or null
 * @param {(mode: "photo" | "free") => void} onView called when the view leaves or meets the photo's camera
 * @param {((id: number | null) => void) | null} onHover called with the object under the pointer, or null
 */
export async function openScene(canvas, glb, names, onPick, onView, onHover = null) {
  const gltf = await new GLTFLoader().parseAsync(glb, "");
  const scene = new Scene();
  scene.add(gltf.scene, new HemisphereLight(0xffffff, 0x8d8577, 2.2));
  const sun = new DirectionalLight(0xffffff, 1.6);
  sun.position.set(-2, 4, 3);
  scene.add(sun);
  scene.updateMatrixWorld(true);

  const everything = meshesOf(gltf.scene);
  everything.forEach(addUnlit);
  const objects = new Map();
  for (const [id, name] of names) {
    const node = nodeNamed(gltf.scene, name);
    if (node !== null) objects.set(id, meshesOf(node));
  }
  const idOf = new Map([...objects].flatMap(([id, meshes]) => meshes.map((mesh) => [mesh, id])));
  let earlier = null;
  let cut = 0;
  const background = everything.filter((mesh) => !idOf.has(mesh));

  const renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true });
  renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
  const photoCamera = gltf.cameras[0];
  const camera = new PerspectiveCamera();
  const controls = new OrbitControls(camera, canvas);
  controls.autoRotateSpeed = 1.5;
  controls.enableZoom = false; // until the view has focus: the wheel scrolls the page
  controls.listenToKeyEvents(canvas);
  canvas.style.touchAction = "pan-y"; // a vertical swipe scrolls the page
  canvas.addEventListener("focus", () => (controls.enableZoom = true));
  canvas.addEventListener("blur", () => (controls.enableZoom = false));

  const eye = new Vector3().setFromMatrixPosition(photoCamera.matrixWorld);
  const ahead = new Vector3(0, 0, -1).transformDirection(photoCamera.matrixWorld);
  const distance = distanceTo(idOf.size > 0 ? [...idOf.keys()] : everything, photoCamera);
  const target = ahead.clone().multiplyScalar(distance).add(eye);
  camera.near = distance / 200;
  camera.far = distance * 200;

  let frame = 0;
  let atPhoto = true;
  const selection = new Box3Helper(new Box3(), ACCENT);
  selection.visible = false;
  scene.add(selection);

  function draw() {
    frame = 0;
    if (controls.autoRotate) {
      controls.update();
      invalidate();
    }
    if (earlier === null || cut === 0) renderer.render(scene, camera);
    else drawBoth();
  }

  /** The earlier scene to the left of the cut, the present one to its right. */
  function drawBoth() {
    const { x: width, y: height } = renderer.getSize(new Vector2());
    const edge = Math.round(cut * width);
    renderer.setScissorTest(true);
    renderer.setScissor(0, 0, edge, height);
    renderer.render(earlier, camera);
    renderer.setScissor(edge, 0, width - edge, height);
    renderer.render(scene, camera);
    renderer.setScissorTest(false);
  }

  function invalidate() {
    if (frame === 0) frame = requestAnimationFrame(draw);
  }

  /** Fits the canvas to its box; the photo's whole field of view stays inside, whatever the shape of the box. */
  function resize() {
    const { clientWidth: width, clientHeight: height } = canvas.parentElement;
    if (width === 0 || height === 0) return;
    renderer.setSize(width, height, false);
    camera.aspect = width / height;
    const slope = Math.tan(MathUtils.degToRad(photoCamera.fov / 2)) * Math.max(1, photoCamera.aspect / camera.aspect);
    camera.fov = MathUtils.radToDeg(2 * Math.atan(slope));
    camera.updateProjectionMatrix();
    invalidate();
  }

  function showPhotoView() {
    controls.autoRotate = false;
    controls.target.copy(target);
    photoCamera.matrixWorld.decompose(camera.position, camera.quaternion, new Vector3());
    limit();
    atPhoto = true;
    onView("photo");
    invalidate();
  }

  /** Keeps the view above the floor, which lies at height 0, unless the photo's camera is below it. */
  function limit() {
    const away = camera.position.distanceTo(controls.target);
    const lowest = MathUtils.clamp(-controls.target.y / away, -1, 1);
    controls.maxPolarAngle = eye.y > 0 ? Math.acos(lowest) : Math.PI;
  }

  controls.addEventListener("change", () => {
    limit();
    if (atPhoto) {
      atPhoto = false;
      onView("free");
    }
    invalidate();
  });

  /** What a camera sees at shares of its picture's width and height, from the left and from above; undefined for nothing. */
  function seen(across, down, from) {
    const caster = new Raycaster();
    caster.setFromCamera(new Vector2(2 * across - 1, 1 - 2 * down), from);
    return caster.intersectObjects(everything.filter((mesh) => mesh.visible), false)[0];
  }

  /** The object that a pointer meets, or null. */
  function met(event) {
    const box = canvas.getBoundingClientRect();
    const hit = seen((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, camera);
    return hit === undefined ? null : (idOf.get(hit.object) ?? null);
  }

  let pressed = null;
  canvas.addEventListener("pointerdown", (event) => (pressed = event));
  canvas.addEventListener("pointerup", (event) => {
    const moved = pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY);
    if (moved !== null && moved <= CLICK_PIXELS) onPick(met(event));
    pressed = null;
  });
  if (onHover !== null) {
    canvas.addEventListener("pointermove", (event) => pressed === null && onHover(met(event)));
    canvas.addEventListener("pointerleave", () => onHover(null));
  }

  /** Draws a box about the object `id` and dims the rest; null for none. */
  function select(id) {
    const chosen = objects.get(id);
    selection.visible = chosen !== undefined;
    selection.box.makeEmpty();
    chosen?.forEach((mesh) => selection.box.expandByObject(mesh));
    for (const mesh of everything) {
      const dimmed = chosen !== undefined && !chosen.includes(mesh);
      for (const material of Object.values(mesh.userData.materials)) {
        material.color.copy(dimmed ? DIMMED : mesh.userData.color);
      }
    }
    invalidate();
  }

  function setVisible(meshes, visible) {
    meshes.forEach((mesh) => (mesh.visible = visible));
    invalidate();
  }

  const sizes = new ResizeObserver(resize);
  sizes.observe(canvas.parentElement);
  resize();
  showPhotoView();

  return {
    select,
    showPhotoView,
    /** Width, height and depth of the object `id` in the world's axes, metres; null if it is not in the scene. */
    size(id) {
      const box = new Box3();
      objects.get(id)?.forEach((mesh) => box.expandByObject(mesh));
      return box.isEmpty() ? null : box.getSize(new Vector3()).toArray();
    },
    /** How far from the photo's camera the scene is at shares of the photo's width and height, metres; null for nothing. */
    distance: (across, down) => seen(across, down, photoCamera)?.distance ?? null,
    /** Moves the object `id` along its rays from the photo's camera, to this multiple of the distance it was made at. */
    setDistance(id, factor) {
      for (const mesh of objects.get(id) ?? []) {
        mesh.userData.made ??= mesh.matrixWorld.clone();
        const about = new Matrix4().makeTranslation(eye).multiply(new Matrix4().makeScale(factor, factor, factor));
        const world = about.multiply(new Matrix4().makeTranslation(eye.clone().negate())).multiply(mesh.userData.made);
        mesh.matrix.copy(mesh.parent.matrixWorld).invert().multiply(world);
        mesh.matrixAutoUpdate = false;
        mesh.updateMatrixWorld(true);
      }
      invalidate();
    },
    /** Shows another scene of the photo to the left of the cut, from wherever this one is seen. */
    async compare(glb) {
      const other = await new GLTFLoader().parseAsync(glb, "");
      other.scene.updateMatrixWorld(true);
      meshesOf(other.scene).forEach(addUnlit);
      // Both cameras become one, and the scenes as large: their metres may differ.
      const size = distanceTo(everything, photoCamera) / distanceTo(meshesOf(other.scene), other.cameras[0]);
      earlier = new Scene().add(other.scene);
      earlier.matrixAutoUpdate = false;
      earlier.matrix.copy(photoCamera.matrixWorld).multiply(new Matrix4().makeScale(size, size, size));
      earlier.matrix.multiply(other.cameras[0].matrixWorldInverse);
      earlier.updateMatrixWorld(true);
      invalidate();
    },
    /** Puts the cut at this share of the width from the left. */
    setCut(share) {
      cut = share;
      invalidate();
    },
    /** Gives back what the browser holds for the view, which is of no use afterwards. */
    close() {
      sizes.disconnect();
      cancelAnimationFrame(frame);
      controls.dispose();
      renderer.dispose();
      renderer.forceContextLoss();
    },
    setTurning(on) {
      controls.autoRotate = on;
      invalidate();
    },
    /** Hides the objects of a set of ids, and shows all others. */
    hide(ids) {
      for (const [id, meshes] of objects) setVisible(meshes, !ids.has(id));
    },
    setBackground: (on) => setVisible(background, on),
    setObjects: (on) => setVisible([...idOf.keys()], on),
    setWireframe(on) {
      everything.forEach(({ userData }) =>
        Object.values(userData.materials).forEach((material) => (material.wireframe = on)),
      );
      invalidate();
    },
    setShaded(on) {
      everything.forEach((mesh) => (mesh.material = mesh.userData.materials[on ? "shaded" : "unlit"]));
      invalidate();
    },
  };
}
