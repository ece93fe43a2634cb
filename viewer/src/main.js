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

async function start() {
  const view = document.querySelector("#view");
  const status = view.querySelector("[role=status]");
  let scene = null;
  const select = (id, fromScene) => {
    table.select(id, fromScene);
    scene?.select(id);
  };
  const table = wireObjects(document.querySelector("#objects"), (id) => select(id, false));
  wireCompare(document.querySelector("#compare"));

  if (!hasWebGL()) {
    view.dataset.state = "unavailable";
    status.textContent = "This browser has no WebGL, so the 3D view is replaced by a picture from the side.";
    return;
  }
  const photo = view.querySelector("[data-action=photo]");
  const base64 = document.querySelector("#scene-glb").textContent;
  const pick = (id) => select(id, true);
  const onView = (mode) => photo.setAttribute("aria-pressed", String(mode === "photo"));
  try {
    scene = await openScene(view.querySelector("canvas"), base64, table.names, pick, onView);
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
