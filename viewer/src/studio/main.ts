// The studio's page: photo and scene side by side, and what a person does to them. All that counts is on the server.

import { hasWebGL, openScene } from "../scene.js";
import { type News, type State, type Step, getScene, getState, order, take } from "./api.js";
import { PhotoView, colour } from "./photo.js";
import { TOOLS, type Tool, type ToolName, tool } from "./tools.js";

type SceneView = Awaited<ReturnType<typeof openScene>>;

function found<E extends Element = HTMLElement>(selector: string): E {
  const element = document.querySelector<E>(selector);
  if (element === null) throw new Error(`the page lacks ${selector}`);
  return element;
}

const status = found("#status");
const list = found("#objects ul");
const apply = found<HTMLButtonElement>("#apply");
const brush = found<HTMLInputElement>("#brush");
const metres = found<HTMLInputElement>("#metres");

let state: State;
let selected = new Set<number>();
let hovered: number | null = null;
let current: Tool | null = null;
let toolName: ToolName = "select";
let scene: SceneView | null = null;
let sceneShown = "";
let hidden = new Set<number>();

const photo = new PhotoView(found<SVGSVGElement>("#outlines"), found<HTMLCanvasElement>("#paint"), pick, hover);
const bench = {
  state: () => state,
  target: () => (selected.size === 1 ? [...selected][0]! : null),
  photo,
  brush: () => brush.valueAsNumber,
  metres: () => metres.valueAsNumber,
  say,
  ready: (ready: boolean) => (apply.disabled = !ready),
};

function say(text: string): void {
  status.textContent = text;
}

function trying(work: () => Promise<unknown>): void {
  work().catch((error: Error) => say(error.message));
}

// What is selected and meant -------------------------------------------------------------------------------------------

function pick(id: number | null, more: boolean): void {
  if (!more) selected = new Set(id === null || (selected.size === 1 && selected.has(id)) ? [] : [id]);
  else if (id !== null) selected.has(id) ? selected.delete(id) : selected.add(id);
  mark();
}

function hover(id: number | null): void {
  if (id === hovered) return;
  hovered = id;
  mark();
}

function mark(): void {
  photo.mark(selected, hovered);
  for (const row of list.children as HTMLCollectionOf<HTMLElement>) {
    const id = Number(row.dataset.id);
    row.classList.toggle("hovered", id === hovered);
    row.querySelector("button")!.setAttribute("aria-pressed", String(selected.has(id)));
  }
  scene?.select(hovered ?? bench.target());
  scene?.hide(hidden);
  const count = selected.size;
  enable({ merge: count > 1, remove: count > 0, background: count > 0, rename: count === 1, again: count === 1 });
  enable({ hide: count > 0, isolate: count > 0, showall: hidden.size > 0 });
}

function enable(buttons: Record<string, boolean>): void {
  for (const [name, on] of Object.entries(buttons)) found<HTMLButtonElement>(`[data-do=${name}]`).disabled = !on;
}

// What the server says -------------------------------------------------------------------------------------------------

async function refresh(): Promise<void> {
  show(await getState());
}

function show(now: State): void {
  state = now;
  document.title = `${now.name} - scenegen studio`;
  found("h1").textContent = now.name;
  selected = new Set([...selected].filter((id) => now.objects.some((item) => item.id === id)));
  photo.show(now);
  list.replaceChildren(...now.objects.map(row));
  found("#count").textContent = `${now.objects.length} object${now.objects.length === 1 ? "" : "s"}`;
  found("#warnings").replaceChildren(...[...now.warnings, ...(now.made?.warnings ?? [])].map(item));
  const chip = found("#state");
  chip.textContent = now.published ? "Published" : "Not published";
  chip.className = `chip ${now.published ? "good" : "fair"}`;
  found("#files").replaceChildren(...now.files.filter((name) => !name.includes("/")).map(link));
  enable({ undo: now.can_undo, redo: now.can_redo });
  progress(now);
  mark();
  trying(showScene);
}

function item(text: string): HTMLLIElement {
  const line = document.createElement("li");
  line.textContent = text.replace(/^note: /, "");
  return line;
}

function link(name: string): HTMLLIElement {
  const line = document.createElement("li");
  const anchor = document.createElement("a");
  anchor.href = `published/${encodeURIComponent(name)}`;
  anchor.textContent = name;
  line.append(anchor);
  return line;
}

function row(shown: State["objects"][number]): HTMLLIElement {
  const line = document.createElement("li");
  line.dataset.id = String(shown.id);
  line.style.setProperty("--colour", colour(shown.id));
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = `${shown.id} ${shown.label}`;
  button.addEventListener("click", (event) => pick(shown.id, event.shiftKey || event.ctrlKey || event.metaKey));
  const note = document.createElement("span");
  note.className = "note";
  note.textContent = facts(shown);
  line.append(button, note);
  line.addEventListener("pointerenter", () => hover(shown.id));
  line.addEventListener("pointerleave", () => hover(null));
  button.addEventListener("focus", () => hover(shown.id));
  button.addEventListener("blur", () => hover(null));
  return line;
}

/** How sure the name is, how large the object is and how well it was made, as far as that is known. */
function facts(shown: State["objects"][number]): string {
  const made = state.made?.objects.find((each) => each.id === shown.id);
  const size = scene?.size(shown.id);
  return [
    shown.sure === null ? "" : `${Math.round(100 * shown.sure)} % sure`,
    size ? `${size.map((side) => side.toFixed(2)).join(" x ")} m` : "",
    made ? `IoU ${made.scores.silhouette_iou.toFixed(2)}` : "",
  ]
    .filter(Boolean)
    .join(", ");
}

function progress({ job, made, revision }: State): void {
  const running = job?.state === "running";
  const bar = found<HTMLProgressElement>("progress");
  bar.hidden = !running;
  enable({ make: !running, publish: !running });
  found<HTMLButtonElement>("[data-do=cancel]").hidden = !running;
  const text = found("#making");
  if (job === null) text.textContent = "";
  else if (running) {
    const ended = job.stages.filter(([, how]) => how === "done" || how === "found").length;
    bar.max = Math.max(job.stages.length, 8);
    bar.value = ended;
    const busy = job.stages.filter(([, how]) => !["done", "found", "waiting", "failed"].includes(how));
    text.textContent = busy.map(([stage, how]) => (how === "running" ? stage : `${stage}: ${how}`)).join(", ");
  } else if (job.state === "done") {
    text.textContent = made && made.revision !== revision ? "The scene is of before the last edits: make it again." : "";
  } else text.textContent = job.state === "failed" ? `It could not be made: ${job.error}` : "Cancelled; finished work is kept.";
}

// The scene ------------------------------------------------------------------------------------------------------------

async function showScene(): Promise<void> {
  if (state.made === null || state.made.glb.sha256 === sceneShown) return;
  sceneShown = state.made.glb.sha256;
  const view = found("#scene");
  if (!hasWebGL()) {
    view.dataset.state = "unavailable";
    return;
  }
  const canvas = document.createElement("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "The scene in 3D. Drag to turn it; with the keyboard, hold Ctrl and use the arrow keys.");
  const names = new Map(state.made.objects.map(({ id, name }) => [id, name]));
  const glb = await getScene();
  scene?.close();
  view.querySelector("canvas")?.remove();
  view.append(canvas);
  scene = await openScene(canvas, glb, names, (id: number | null) => pick(id, false), () => undefined, hover);
  view.dataset.state = "ready";
  found("#scene + .toolbar").hidden = false;
  for (const line of list.children as HTMLCollectionOf<HTMLElement>) {
    const shown = state.objects.find(({ id }) => id === Number(line.dataset.id));
    if (shown) line.querySelector(".note")!.textContent = facts(shown);
  }
  mark();
}

// What a person does ---------------------------------------------------------------------------------------------------

async function step(made: Step): Promise<void> {
  say("");
  try {
    show(await take(state.revision, made));
  } catch (error) {
    await refresh();
    throw error;
  }
}

function choose(name: ToolName): void {
  toolName = name;
  current = tool(name, bench);
  photo.pointing = current;
  photo.sketch({});
  photo.clearPaint();
  apply.disabled = true;
  document.body.dataset.tool = name;
  say(TOOLS[name].hint);
  for (const button of document.querySelectorAll<HTMLElement>("#tools [data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  }
}

async function applied(): Promise<void> {
  const made = current?.step() ?? null;
  if (made === null) {
    say(current === null ? "Choose a tool first." : `Nothing to apply. ${TOOLS[toolName].hint}`);
    return;
  }
  await step(made);
  choose(toolName);
  if ("object" in made) {
    selected = new Set([made.object]);
    mark();
  }
}

/** Asks for a text in the page's dialog; null if none was given. */
function asking(question: string, value: string): Promise<string | null> {
  const dialog = found<HTMLDialogElement>("dialog");
  const input = dialog.querySelector("input")!;
  dialog.querySelector("label span")!.textContent = question;
  input.value = value;
  dialog.returnValue = "";
  dialog.showModal();
  input.select();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "ok" && input.value.trim() ? input.value.trim() : null), {
      once: true,
    });
  });
}

async function each(made: (id: number) => Step): Promise<void> {
  for (const id of [...selected]) await step(made(id));
}

async function rename(): Promise<void> {
  const object = bench.target();
  const shown = state.objects.find(({ id }) => id === object);
  if (shown === undefined) return;
  const label = await asking(`What is object ${shown.id}?`, shown.label);
  if (label !== null) await step({ kind: "rename", object: shown.id, label });
}

async function regenerate(): Promise<void> {
  const object = bench.target();
  if (object === null) return;
  const seed = await asking(`Seed for object ${object}`, String(1 + Math.floor(Math.random() * 1e6)));
  if (seed !== null) await step({ kind: "regenerate", object, seed: Number(seed) });
}

/** Hides objects in the 3D view, and nowhere else. */
function hiding(ids: number[]): void {
  hidden = new Set(ids);
  mark();
}

async function fieldOfView(): Promise<void> {
  const degrees = await asking("Horizontal field of view in degrees", "55");
  if (degrees !== null) await step({ kind: "field_of_view", degrees: Number(degrees) });
}

const DOES: Record<string, { key: string; run: () => Promise<unknown> }> = {
  merge: { key: "m", run: () => step({ kind: "merge", objects: [...selected] }) },
  remove: { key: "Delete", run: () => each((object) => ({ kind: "remove", object, shows: "unknown" })) },
  background: { key: "b", run: () => each((object) => ({ kind: "remove", object, shows: "background" })) },
  rename: { key: "F2", run: rename },
  again: { key: "g", run: regenerate },
  fov: { key: "f", run: fieldOfView },
  undo: { key: "z", run: () => step({ kind: "undo" }) },
  redo: { key: "y", run: () => step({ kind: "redo" }) },
  make: { key: "r", run: () => order("make") },
  cancel: { key: "", run: () => order("cancel") },
  publish: { key: "u", run: () => order("publish") },
  view: { key: "0", run: async () => scene?.showPhotoView() },
  hide: { key: "h", run: async () => hiding([...hidden, ...selected]) },
  isolate: { key: "i", run: async () => hiding(state.objects.map(({ id }) => id).filter((id) => !selected.has(id))) },
  showall: { key: "a", run: async () => hiding([]) },
};

function byKey(event: KeyboardEvent): void {
  const typing = event.target instanceof HTMLInputElement && event.target.type !== "range";
  if (found<HTMLDialogElement>("dialog").open || (typing && event.key !== "Enter")) return;
  if (event.ctrlKey || event.metaKey) {
    if (event.key.toLowerCase() !== "z" && event.key !== "y") return;
    found<HTMLButtonElement>(`[data-do=${event.key === "y" || event.shiftKey ? "redo" : "undo"}]`).click();
  } else if (event.key === "Enter" && (typing || !(event.target instanceof HTMLButtonElement))) {
    trying(applied);
  } else if (event.key === "Escape") {
    choose("select");
  } else {
    const named = Object.entries(DOES).find(([name, { key }]) => key === event.key && name !== "undo" && name !== "redo");
    const chosen = Object.entries(TOOLS).find(([, { key }]) => key === event.key);
    if (named) found<HTMLButtonElement>(`[data-do=${named[0]}]`).click();
    else if (chosen) choose(chosen[0] as ToolName);
    else return;
  }
  event.preventDefault();
}

function listen(): void {
  const events = new EventSource("events");
  events.onmessage = (event: MessageEvent<string>) => {
    const news = JSON.parse(event.data) as News;
    const ended = news.job?.state !== "running" && state.job?.state === "running";
    if (news.revision !== state.revision || news.made !== (state.made?.glb.sha256 ?? null) || ended) trying(refresh);
    else {
      state = { ...state, job: news.job };
      progress(state);
    }
  };
  events.onerror = () => say("The studio does not answer. What was done is kept: start it again.");
}

async function start(): Promise<void> {
  const tools = found("#tools");
  for (const [name, { label, key }] of Object.entries(TOOLS)) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.tool = name;
    button.textContent = label;
    button.title = `${label} (${key.toUpperCase()})`;
    button.setAttribute("aria-keyshortcuts", key.toUpperCase());
    button.addEventListener("click", () => choose(name as ToolName));
    tools.append(button);
  }
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-do]")) {
    button.addEventListener("click", () => trying(DOES[button.dataset.do!]!.run));
  }
  apply.addEventListener("click", () => trying(applied));
  document.addEventListener("keydown", byKey);
  say("Looking at the photo ...");
  await refresh();
  found("main").dataset.ready = "";
  choose("select");
  listen();
}

trying(start);
