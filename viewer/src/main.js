// The script of the report page. The page reads well without it.

import { wireCompare } from "./compare.js";
import { wireObjects } from "./objects.js";
import { hasWebGL, openScene } from "./scene.js";

function wireToggle(name, action) {
  const button = document.querySelector(`[data-toggle=${name}]`);
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    action(on);
  });
  return button;
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

async function start() {
  const view = document.querySelector("#view");
  const status = view.querySelector("[role=status]");
  let scene = null;
  const table = wireObjects(document.querySelector("#objects"), select);

  /** Shows which object is meant, in the scene, in the table, and between them. */
  function select(id) {
    table.select(id);
    scene?.select(id);
    const row = document.querySelector(`#object-${id}`);
    status.replaceChildren();
    if (row === null) return;
    const link = document.createElement("a");
    link.href = `#${row.id}`;
    link.textContent = row.querySelector(".pick").textContent;
    status.append("Selected: ", link);
  }

  wireCompare(document.querySelector("#compare"));

  if (!hasWebGL()) {
    view.dataset.state = "unavailable";
    status.textContent = "This browser has no WebGL, so the 3D view is replaced by a picture from the side.";
    return;
  }
  const photo = view.querySelector("[data-action=photo]");
  const glb = bytesOf(document.querySelector("#scene-glb").textContent).buffer;
  const onView = (mode) => photo.setAttribute("aria-pressed", String(mode === "photo"));
  try {
    scene = await openScene(view.querySelector("canvas"), glb, table.names, select, onView);
  } catch (error) {
    view.dataset.state = "failed";
    status.textContent = `The 3D view could not be opened (${error.message}). The picture shows the scene from the side.`;
    return;
  }
  view.dataset.state = "ready";
  status.textContent = "";
  const turning = wireToggle("turning", scene.setTurning);
  wireToggle("objects", scene.setObjects);
  wireToggle("background", scene.setBackground);
  wireToggle("shaded", scene.setShaded);
  wireToggle("wireframe", scene.setWireframe);
  photo.addEventListener("click", () => {
    turning.setAttribute("aria-pressed", "false");
    scene.showPhotoView();
  });
}

start();
